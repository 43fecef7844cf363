"""Checks of files before the work whose result they hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

from .errors import EffaceError


def check_file_path(path: Path, suffix: str, *others: str) -> None:
    """Checks that a file can be written.

    Args:
        path: The file.
        suffix: The suffix that it must have, such as ``.png``.
        others: Other suffixes that it may have instead.

    Raises:
        EffaceError: Another suffix, or a folder that does not exist or cannot be written.
    """
    if path.suffix.lower() not in (suffix, *others):
        kind = suffix.lstrip(".").upper()
        raise EffaceError(f"{path} does not end in {suffix}: name a {kind} file, such as --out {path.stem}{suffix}")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise EffaceError(f"the folder {folder} does not exist: create it first, or choose another --out")
    if not os.access(folder, os.W_OK):
        raise EffaceError(f"no permission to write to the folder {folder}: choose another --out")


def free_folder(parent: Path, name: str, holds_the_same: Callable[[Path], bool]) -> Path:
    """Returns the folder for new content, so that what is saved under one name never changes.

    Args:
        parent: folder of the folders.
        name: name of the folder; ``NAME-2``, ``NAME-3`` and so on follow.
        holds_the_same: whether an existing folder holds this very content already.

    Returns:
        The first of these folders that holds the same or does not exist.
    """
    folders = (parent / (name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(path for path in folders if not path.exists() or holds_the_same(path))
