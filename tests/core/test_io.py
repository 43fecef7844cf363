"""Atomic writes: files and folders are complete or absent, even if the writer is killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from efface.core.errors import CorruptArtifactError, EffaceError
from efface.core.io import (
    atomic_folder,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    backup_of,
    read_json,
    sha256_file,
)


def read_folder(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_replaced_and_no_temporary_file_remains(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    atomic_write_text(path, "one")
    atomic_write_bytes(path, b"two")
    assert read_folder(tmp_path) == {"new/file.txt": b"two"}
    assert sha256_file(path) == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"


def test_json(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "a.json", {"b": (1, 2.5), "a": "é"})
    assert read_json(tmp_path / "a.json") == {"b": [1, 2.5], "a": "é"}
    with pytest.raises(EffaceError, match="finite"):
        atomic_write_json(tmp_path / "a.json", {"b": float("nan")})
    (tmp_path / "b.json").write_text('{"a": ')
    with pytest.raises(CorruptArtifactError, match="cut short"):
        read_json(tmp_path / "b.json")
    with pytest.raises(EffaceError, match="cannot read"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("code", "cure"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "may write"), (errno.EROFS, "read-only")]
)
def test_a_failed_write_keeps_the_old_file_and_names_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, cure: str
) -> None:
    path = tmp_path / "file"
    atomic_write_bytes(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(EffaceError, match=cure) as caught:
        atomic_write_bytes(path, b"new")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(EffaceError, match=cure), atomic_folder(tmp_path / "folder") as new:
        (new / "x").write_text("x")
    assert read_folder(tmp_path) == {"file": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(EffaceError, match="cannot write"):
        atomic_write_bytes(tmp_path / "file" / "below", b"x")


def test_a_folder_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with atomic_folder(path) as new:
        (new / "sub").mkdir()
        (new / "sub" / "a").write_text("a")
        assert not path.exists()
    assert read_folder(tmp_path) == {"out/sub/a": b"a"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_folder_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "out") as new:
            (new / "a").write_text("a")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    with atomic_folder(path) as new:  # empty: free to take
        (new / "a").write_text("1")
    with pytest.raises(EffaceError, match="already there"), atomic_folder(path) as new:
        pass
    with atomic_folder(path, replace=True) as new:
        (new / "b").write_text("2")
    assert read_folder(tmp_path) == {"out/b": b"2"}
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / "file").write_text("x")
    with pytest.raises(EffaceError, match="already there"), atomic_folder(tmp_path / "file", replace=True):
        pass
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(EffaceError, match="already there"), atomic_folder(tmp_path / "link", replace=True):
        pass


def test_a_failed_swap_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, rename, calls = tmp_path / "out", os.rename, []
    with atomic_folder(path) as new:
        (new / "a").write_text("old")

    def second_fails(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.EIO, "input/output error")
        rename(source, target)

    monkeypatch.setattr("efface.core.io.os.rename", second_fails)
    with pytest.raises(EffaceError, match="input/output"), atomic_folder(path, replace=True) as new:
        (new / "a").write_text("new")
    assert read_folder(tmp_path) == {"out/a": b"old"}
    assert len(list(tmp_path.iterdir())) == 1


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from efface.core import io

    path, moment = Path(sys.argv[1]), sys.argv[2]
    die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    rename, calls = os.rename, []

    def counted(source, target):
        calls.append(source)
        if moment == f"before rename {len(calls)}":
            die()
        rename(source, target)

    io.os.rename = counted
    if moment == "before clean-up":
        io.shutil.rmtree = die
    with io.atomic_folder(path, replace=True) as new:
        (new / "a").write_text("new")
        if moment == "in the body":
            die()
        (new / "b").write_text("new")
"""


@pytest.mark.parametrize("moment", ["in the body", "before rename 1", "before rename 2", "before clean-up"])
def test_sigkill_leaves_the_old_or_the_new_folder_complete(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "out"
    old, new = {"a": b"old", "b": b"old"}, {"a": b"new", "b": b"new"}
    with atomic_folder(path) as folder:
        for name, data in old.items():
            (folder / name).write_bytes(data)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(path), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    left = read_folder(path) if path.exists() else read_folder(backup_of(path))
    assert left == (new if moment == "before clean-up" else old)
    with (
        pytest.raises(EffaceError, match="already there"),
        atomic_folder(path),
    ):  # the next writer recovers, also when it is refused
        pass
    assert read_folder(path) == left
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


def test_the_temporary_folder_of_a_running_writer_stays(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as first:
        (first / "a").write_text("first")
        with atomic_folder(tmp_path / "other") as second:
            (second / "a").write_text("second")
    assert read_folder(tmp_path) == {"out/a": b"first", "other/a": b"second"}
