"""Atomic writes of files and folders, reads, hashes, and file errors that name the cure."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import EffaceError
from .serialization import JsonValue, json_bytes, parse_json, to_jsonable
from .temporary_files import clear_dead_writers, clear_dead_writers_once, fsync, fsync_tree, temporary_path

_CURES = {
    errno.ENOSPC: "no space left on the device; free some space or choose another path",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another path",
    errno.EACCES: "permission denied; choose a path that you may write to",
    errno.EPERM: "operation not permitted; choose a path that you may write to",
    errno.EROFS: "the file system is read-only; choose another path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of the images in a user's folder."""


@contextmanager
def user_file_errors(path: Path, action: str = "write") -> Iterator[None]:
    """Turns file errors of the body into a one-line `EffaceError` with the path and the cure.

    Covers `OSError` and text that is not UTF-8; `action` is the verb of the message, ``read`` or ``write``.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise EffaceError(
            f"cannot {action} {path}: it is not text in UTF-8 (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        cure = _CURES.get(error.errno or 0) or error.strerror or error
        raise EffaceError(f"cannot {action} {path}: {cure}") from error


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file atomically: the path always holds the complete old or the complete new content.

    Raises:
        EffaceError: a file error such as a full disk; the old content then remains.
    """
    path = Path(path)
    with user_file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_dead_writers_once(path.parent)
        temporary = temporary_path(path)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            fsync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def atomic_write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text atomically, with its line ends unchanged."""
    atomic_write_bytes(path, text.encode())


def atomic_write_json(path: str | Path, value: object) -> None:
    """Writes indented JSON atomically; converts dataclasses, tuples and numpy scalars (see `to_jsonable`).

    Raises:
        EffaceError: a value that JSON cannot hold, such as NaN, or a file error.
    """
    atomic_write_bytes(path, json_bytes(to_jsonable(value)))


def read_json(path: str | Path) -> JsonValue:
    """Reads a JSON file.

    Raises:
        EffaceError: the file cannot be read.
        CorruptArtifactError: it is not JSON in UTF-8.
    """
    path = Path(path)
    with user_file_errors(path, "read"):
        raw = path.read_bytes()
    return parse_json(raw, path)


def sha256_file(path: str | Path) -> str:
    """Returns the SHA-256 of a file's bytes, 64 hexadecimal digits."""
    path = Path(path)
    with user_file_errors(path, "read"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_folder(path: str | Path, replace: bool = False) -> Iterator[Path]:
    """Yields an empty temporary folder; renames it to the path if the body succeeds, and removes it otherwise.

    A replaced folder has the name ``.<name>.old`` between the two renames, so a kill at any point leaves the old or the
    new folder complete. The next write to the same path first restores a remaining old folder and removes the temporary
    files of killed writers.

    Args:
        path: the folder to make; it may exist if it is empty.
        replace: whether a folder with content may be replaced.

    Raises:
        EffaceError: an existing path, or a file error such as a full disk.
    """
    path = Path(os.path.abspath(path))
    with user_file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(path)
        taken = path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir())))
        if taken and not (replace and path.is_dir() and not path.is_symlink()):
            raise EffaceError(f"{path} is already there: choose another folder, or allow replacing it")
        temporary = temporary_path(path)
        temporary.mkdir()
        try:
            yield temporary
            fsync_tree(temporary)
            _replace_folder(temporary, path)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if type(error) is EffaceError and isinstance(error.__cause__, OSError):
                # the message names the path, not the temporary folder that is removed
                raise EffaceError(str(error).replace(str(temporary), str(path))) from error.__cause__
            raise


def backup_of(path: Path) -> Path:
    """Returns the path at which `atomic_folder` keeps the old folder while it replaces it."""
    return path.with_name(f".{path.name}.old")


def _replace_folder(new: Path, path: Path) -> None:
    """Renames the new folder to the path, after moving an existing one to its backup path."""
    old = backup_of(path)
    if path.exists():
        os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        with suppress(OSError):
            os.rename(old, path)
        raise
    fsync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _clear_leftovers(path: Path) -> None:
    """Restores an old folder whose replacement was killed, and removes the files of dead writers."""
    old = backup_of(path)
    if old.exists():
        if path.exists():
            shutil.rmtree(old)
        else:
            os.rename(old, path)
    clear_dead_writers(path.parent)
