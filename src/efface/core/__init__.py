"""Data types, file formats and statistics. Nothing here imports torch."""
