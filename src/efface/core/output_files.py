"""Checks of files before the work whose result they hold."""

from __future__ import annotations

import os
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
