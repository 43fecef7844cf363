"""A user's folder of images, as a setting of methods and attacks: its files, and a hash that names their content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import EffaceError
from .io import IMAGE_SUFFIXES, sha256_file, user_file_errors
from .serialization import json_hash

IMAGE_FOLDER = "image_folder"
"""Name of the setting."""


def image_files(folder: str | Path) -> list[Path]:
    """Returns the images of a folder by name, without those of its subfolders.

    Raises:
        EffaceError: the folder cannot be read, or holds no images.
    """
    with user_file_errors(Path(folder), "read"):
        paths = sorted(path for path in Path(folder).iterdir() if _is_image(path))
    return _not_empty(paths, folder)


def images_hash(folder: str | Path) -> str:
    """Returns a hash of the names and bytes of a folder's images, with those of its subfolders.

    Raises:
        EffaceError: the folder or an image cannot be read, or there are no images.
    """
    with user_file_errors(Path(folder), "read"):
        next(Path(folder).iterdir(), None)  # rglob finds nothing in a missing folder
        paths = sorted(path for path in Path(folder).rglob("*") if _is_image(path))
    named = {path.relative_to(folder).as_posix(): sha256_file(path) for path in _not_empty(paths, folder)}
    return json_hash(named)


def with_image_hash(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings with the hash of their images in place of the folder's path, if they name one."""
    folder = settings.get(IMAGE_FOLDER)
    return {**settings, **({IMAGE_FOLDER: images_hash(folder)[:12]} if folder else {})}


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _not_empty(paths: list[Path], folder: str | Path) -> list[Path]:
    if not paths:
        raise EffaceError(f"{folder} holds no images: put files of {', '.join(IMAGE_SUFFIXES)} there")
    return paths
