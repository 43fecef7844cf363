"""Damage to files."""

from __future__ import annotations

from pathlib import Path


def damage(path: Path, how: str) -> None:
    """Flips one bit (``bit``) or cuts off the last byte (``cut``); leaves the file as it is for any other word."""
    data = bytearray(path.read_bytes())
    if how == "bit":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[:-1] if how == "cut" else data)
