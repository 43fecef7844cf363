"""Cache of generated images in one SQLite file, so that an image is complete or absent after any interruption.

An image's key is a hash of everything it depends on: the model's weights, the erasure's edits, the text, the seed,
the sampler. So evaluations, attacks and reports share images, and an interrupted one continues. The file is in
``$EFFACE_CACHE``, else in ``$XDG_CACHE_HOME/efface`` or ``~/.cache/efface``; beyond `MAX_BYTES` the oldest images are
removed. Deleting the file costs only time.
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

from efface.ops.png import encode_png

MAX_BYTES = 2 * 1024**3
"""Size limit of the stored images, in bytes."""

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS images (key TEXT PRIMARY KEY, png BLOB NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID"
)
_TRIM = "CREATE TABLE IF NOT EXISTS added (number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL)"


def default_cache_file() -> Path:
    """Path of the cache file."""
    if folder := os.environ.get("EFFACE_CACHE"):
        return Path(folder) / "images.sqlite"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "efface" / "images.sqlite"


class ImageCache:
    """Images by key; a cache that cannot be opened or written warns once and stores nothing.

    Args:
        path: the file; `default_cache_file` by default.
        max_bytes: size limit of the stored images.
    """

    def __init__(self, path: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.path = path or default_cache_file()
        self.max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = None
        self._size = 0  # stored bytes, as far as this process knows
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                self._disable(error)
            else:  # not a database: a partial file from a full disk, or another program's
                self.path.unlink(missing_ok=True)
                self._connection = self._open()
        except OSError as error:
            self._disable(error)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=30)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(_SCHEMA)
        connection.execute(_TRIM)
        connection.commit()
        self._size = int(connection.execute("SELECT total(size) FROM images").fetchone()[0])
        return connection

    def _disable(self, error: Exception) -> None:
        warnings.warn(
            f"images are not cached: {self.path} cannot be used ({error}); set EFFACE_CACHE to another folder",
            stacklevel=3,
        )
        self._connection = None

    def get(self, keys: Iterable[str]) -> dict[str, Tensor]:
        """The cached images among these keys, ``(3, H, W)`` bytes each."""
        if self._connection is None:
            return {}
        images = {}
        for key in keys:
            row = self._connection.execute("SELECT png FROM images WHERE key = ?", (key,)).fetchone()
            if row:
                images[key] = _decode_png(row[0])
        return images

    def put(self, images: Mapping[str, Tensor]) -> None:
        """Store images, ``(3, H, W)`` bytes each, all of them or none."""
        if self._connection is None or not images:
            return
        rows = [(key, png, len(png)) for key, image in images.items() for png in (encode_png(image),)]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", rows)
                self._connection.executemany("INSERT INTO added (key) VALUES (?)", [(key,) for key in images])
                self._trim(sum(size for _, _, size in rows))
        except sqlite3.OperationalError as error:
            self._disable(error)

    def _trim(self, added: int) -> None:
        assert self._connection is not None
        self._size += added
        while self._size > self.max_bytes:
            oldest = self._connection.execute("SELECT number, key FROM added ORDER BY number LIMIT 64").fetchall()
            if not oldest:
                break
            self._connection.executemany("DELETE FROM images WHERE key = ?", [(key,) for _, key in oldest])
            self._connection.executemany("DELETE FROM added WHERE number = ?", [(number,) for number, _ in oldest])
            self._size = int(self._connection.execute("SELECT total(size) FROM images").fetchone()[0])


def _decode_png(png: bytes) -> Tensor:
    with Image.open(io.BytesIO(png)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
