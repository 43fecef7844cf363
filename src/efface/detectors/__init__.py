"""Detectors judge or score images; each declares its id, version, licence, threshold and measured error."""
