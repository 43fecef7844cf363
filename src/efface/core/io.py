"""Files that are whole or absent: atomic writes of files and folders, hashes, and file errors a user can cure."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from .errors import EffaceError
from .serialization import JsonValue, json_bytes, parse_json, to_jsonable

_CURES = {
    errno.ENOSPC: "no space left on the device; free some space or choose another place",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another place",
    errno.EACCES: "permission denied; choose a place that you may write to",
    errno.EPERM: "operation not permitted; choose a place that you may write to",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


@contextmanager
def user_file_errors(path: Path, doing: str = "write") -> Iterator[None]:
    """Turns an `OSError` of the body, or text that is not UTF-8, into a one-line `EffaceError` that names the path and the cure."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise EffaceError(
            f"cannot {doing} {path}: it is not text in UTF-8 (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise EffaceError(
            f"cannot {doing} {path}: {_CURES.get(error.errno or 0) or error.strerror or error}"
        ) from error


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file so that at every moment the path holds the old content, the new, or nothing if there was nothing.

    Raises:
        EffaceError: disk full, no permission and the like; the old content is then still in place.
    """
    path = Path(path)
    with user_file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_dead_once(path.parent)
        temporary = _temporary(path)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _fsync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def atomic_write_text(path: str | Path, text: str) -> None:
    """`atomic_write_bytes` of UTF-8 text; line ends stay as they are."""
    atomic_write_bytes(path, text.encode())


def atomic_write_json(path: str | Path, value: object) -> None:
    """`atomic_write_bytes` of indented JSON; dataclasses, tuples and numpy scalars are made plain first.

    Raises:
        EffaceError: a value that JSON cannot hold (NaN too), or a file error.
    """
    atomic_write_bytes(path, json_bytes(to_jsonable(value)))


def read_json(path: str | Path) -> JsonValue:
    """Reads a JSON file.

    Raises:
        EffaceError: the file cannot be read.
        DamagedArtifact: it is not JSON in UTF-8.
    """
    path = Path(path)
    with user_file_errors(path, "read"):
        raw = path.read_bytes()
    return parse_json(raw, path)


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, 64 hexadecimal digits."""
    path = Path(path)
    with user_file_errors(path, "read"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_folder(path: str | Path, replace: bool = False) -> Iterator[Path]:
    """Yields an empty folder beside the path to write into; when the body ends well it becomes the path, else it is removed.

    A folder that is replaced is renamed to ``.<name>.old`` for the moment between the two renames, so that a kill at any point leaves
    the old or the new one complete; the next write to the same path puts a left-over old one back first and clears what killed
    writers left behind.

    Args:
        path: the folder to make; an empty folder may be there already.
        replace: whether a folder with content may be replaced.

    Raises:
        EffaceError: the path is taken, disk full, no permission and the like.
    """
    path = Path(os.path.abspath(path))
    with user_file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(path)
        taken = path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir())))
        if taken and not (replace and path.is_dir() and not path.is_symlink()):
            raise EffaceError(f"{path} is already there: choose another folder or say that it may be replaced")
        temporary = _temporary(path)
        temporary.mkdir()
        try:
            yield temporary
            _sync_tree(temporary)
            _replace_folder(temporary, path)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if type(error) is EffaceError and isinstance(
                error.__cause__, OSError
            ):  # name the path, not what is gone already
                raise EffaceError(str(error).replace(str(temporary), str(path))) from error.__cause__
            raise


def backup_of(path: Path) -> Path:
    """Where `atomic_folder` keeps the old folder for the moment in which it is replaced."""
    return path.with_name(f".{path.name}.old")


def _replace_folder(new: Path, path: Path) -> None:
    """Renames the new folder to the path, the one that is there aside first."""
    old = backup_of(path)
    if path.exists():
        os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        with suppress(OSError):
            os.rename(old, path)
        raise
    _fsync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _clear_leftovers(path: Path) -> None:
    """Puts an old folder back whose replacement was killed half-way and removes what dead writers left."""
    old = backup_of(path)
    if old.exists():
        if path.exists():
            shutil.rmtree(old)
        else:
            os.rename(old, path)
    _clear_dead(path.parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def _clear_dead(folder: Path) -> None:
    """Removes the temporary files and folders of processes of this machine that are no more."""
    ours = re.compile(rf"\..+\.tmp-{re.escape(platform.node())}-(\d+)-[0-9a-f]{{8}}")
    for item in folder.iterdir():
        match = ours.fullmatch(item.name)
        if match and not _process_is_alive(int(match[1])):
            if item.is_dir():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink(missing_ok=True)


# once a process and folder: a cache of images may hold many thousand files
_clear_dead_once = cache(_clear_dead)


def _process_is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _fsync(path: Path) -> None:
    if os.name == "nt":  # cannot open folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    for item in sorted(folder.rglob("*")):
        _fsync(item)
    _fsync(folder)
