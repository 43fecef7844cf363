"""Applying an erasure's edits to a model and removing them, and checking that they change the images."""
