"""Erasures that the user has not saved: a temporary folder holds their files, and their evidence, while they exist."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .erasure import Erasure

PREFIX = "efface-unsaved-"


def is_unsaved(folder: Path | None) -> bool:
    """Tells whether a folder is none or a temporary one."""
    return folder is None or folder.parent.name.startswith(PREFIX)


def new_folder() -> Path:
    """Makes an empty temporary folder and returns the path of an erasure in it."""
    return Path(tempfile.mkdtemp(prefix=PREFIX)) / "erasure"


def remove_with(erasure: Erasure, folder: Path) -> None:
    """Removes the temporary folder when the erasure is collected, or at exit."""
    weakref.finalize(erasure, shutil.rmtree, folder.parent, ignore_errors=True)


@contextmanager
def removed_on_error(folder: Path) -> Iterator[None]:
    """Removes the temporary folder if the body fails."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder.parent, ignore_errors=True)
        raise


def folder_of(erasure: Erasure) -> Path:
    """Returns an erasure's folder; one that exists only in memory is written to a temporary folder first."""
    if erasure.folder is None:
        folder = new_folder()
        with removed_on_error(folder):
            erasure.save(folder)
        remove_with(erasure, folder)
        object.__setattr__(erasure, "folder", folder)  # the same erasure, now with files
    assert erasure.folder is not None
    return erasure.folder
