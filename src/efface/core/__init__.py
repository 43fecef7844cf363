"""Data, files and protocol types. Nothing in here imports torch."""
