"""Images that were drawn before: one SQLite file, so that an image is whole or absent, whoever is killed when.

An image's key is a hash of everything that it depends on: the model's weights, the erasure's edits, the text, the seed, the sampler. So
evaluations, attacks and reports share images, and one that was interrupted goes on where it stopped. The file lies in ``$EFFACE_CACHE``,
else in ``$XDG_CACHE_HOME/efface`` or ``~/.cache/efface``; beyond `LIMIT` the oldest images go. Removing it costs time only.
"""

from __future__ import annotations

import io
import os
import sqlite3
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

LIMIT = 2 * 1024**3
"""Bytes of images that are kept."""

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS images (key TEXT PRIMARY KEY, png BLOB NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID"
)
_TRIM = "CREATE TABLE IF NOT EXISTS added (number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL)"


def cache_file() -> Path:
    """Where the images lie."""
    if folder := os.environ.get("EFFACE_CACHE"):
        return Path(folder) / "images.sqlite"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "efface" / "images.sqlite"


class ImageCache:
    """Images by key; one that cannot be opened or written warns once and keeps nothing.

    Args:
        path: the file; `cache_file` by default.
        limit: bytes of images that are kept.
    """

    def __init__(self, path: Path | None = None, limit: int = LIMIT) -> None:
        self.path, self.limit = path or cache_file(), limit
        self._base: sqlite3.Connection | None = None
        self._size = 0  # bytes that are kept, as far as this process knows
        try:
            self._base = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                self._give_up(error)
            else:  # not a database: half a file from a full disk, or somebody else's
                self.path.unlink(missing_ok=True)
                self._base = self._open()
        except OSError as error:
            self._give_up(error)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        base = sqlite3.connect(self.path, timeout=30)
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=NORMAL")
        base.execute(_SCHEMA)
        base.execute(_TRIM)
        base.commit()
        self._size = int(base.execute("SELECT total(size) FROM images").fetchone()[0])
        return base

    def _give_up(self, error: Exception) -> None:
        warnings.warn(
            f"images are not kept, since {self.path} cannot be used ({error}); set EFFACE_CACHE to another folder",
            stacklevel=3,
        )
        self._base = None

    def get(self, keys: Iterable[str]) -> dict[str, Tensor]:
        """Those of the images that are there, ``(3, H, W)`` bytes each."""
        if self._base is None:
            return {}
        found = {}
        for key in keys:
            row = self._base.execute("SELECT png FROM images WHERE key = ?", (key,)).fetchone()
            if row:
                found[key] = _decoded(row[0])
        return found

    def put(self, images: Mapping[str, Tensor]) -> None:
        """Keeps images, ``(3, H, W)`` bytes each, all of them or none."""
        if self._base is None or not images:
            return
        rows = [(key, png, len(png)) for key, image in images.items() for png in (encoded(image),)]
        try:
            with self._base:
                self._base.executemany("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", rows)
                self._base.executemany("INSERT INTO added (key) VALUES (?)", [(key,) for key in images])
                self._trim(sum(size for _, _, size in rows))
        except sqlite3.OperationalError as error:
            self._give_up(error)

    def _trim(self, added: int) -> None:
        assert self._base is not None
        self._size += added
        while self._size > self.limit:
            oldest = self._base.execute("SELECT number, key FROM added ORDER BY number LIMIT 64").fetchall()
            if not oldest:
                break
            self._base.executemany("DELETE FROM images WHERE key = ?", [(key,) for _, key in oldest])
            self._base.executemany("DELETE FROM added WHERE number = ?", [(number,) for number, _ in oldest])
            self._size = int(self._base.execute("SELECT total(size) FROM images").fetchone()[0])


def encoded(image: Tensor) -> bytes:
    """Bytes ``(3, H, W)`` as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _decoded(png: bytes) -> Tensor:
    with Image.open(io.BytesIO(png)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
