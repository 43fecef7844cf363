"""Temporary files of atomic writes: their names, their removal after a kill, and flushing to the disk."""

from __future__ import annotations

import os
import platform
import re
import shutil
import uuid
from functools import cache
from pathlib import Path


def temporary_path(path: Path) -> Path:
    """Returns an unused path beside the given one; its name holds this machine and process."""
    return path.with_name(f".{path.name}.tmp-{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def clear_dead_writers(folder: Path) -> None:
    """Removes the temporary files and folders of processes of this machine that have ended."""
    pattern = re.compile(rf"\..+\.tmp-{re.escape(platform.node())}-(\d+)-[0-9a-f]{{8}}")
    for item in folder.iterdir():
        match = pattern.fullmatch(item.name)
        if match and not _process_is_alive(int(match[1])):
            if item.is_dir():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink(missing_ok=True)


clear_dead_writers_once = cache(clear_dead_writers)
"""Runs once for each process and folder: a cache of images may hold many thousand files."""


def _process_is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def fsync(path: Path) -> None:
    """Flushes a file or folder to the disk."""
    if os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(folder: Path) -> None:
    """Flushes a folder and everything in it to the disk."""
    for item in sorted(folder.rglob("*")):
        fsync(item)
    fsync(folder)


def complete_files(folder: Path, name: str) -> list[Path]:
    """Returns the files of this name in the subfolders, sorted; hidden subfolders are not complete.

    Args:
        folder: a folder whose subfolders are each written under a hidden name and renamed at the end.
        name: name of the file.
    """
    return sorted(path for path in folder.glob(f"*/{name}") if not path.parent.name.startswith("."))
