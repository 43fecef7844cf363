"""Full disks and missing permissions: one line with the cure, and no file is lost or half-written."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from helpers.cli import QUICK, CommandOutput, call, check_refused, content

from efface.core import tensors
from efface.ops.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")  # so that bytes of two runs are equal
CURES = {errno.ENOSPC: "free some space", errno.EACCES: "choose a path that you may write to"}


class FailingDisk:
    """Lets writes to paths that match `pattern` fail after half of the bytes, as on a disk that fills up."""

    def __init__(self, patch: pytest.MonkeyPatch, pattern: str, code: int) -> None:
        self.pattern, self.code, self.num_failures = pattern, code, 0
        self.original_write, self.original_mkdir = Path.write_bytes, Path.mkdir
        patch.setattr(tensors, "open", self.open, raising=False)
        patch.setattr(Path, "write_bytes", lambda path, data: self.write_bytes(path, data))
        if code == errno.EACCES:
            patch.setattr(Path, "mkdir", lambda path, *args, **kwargs: self.mkdir(path, *args, **kwargs))

    def matches(self, path) -> bool:
        return re.search(self.pattern, str(path)) is not None

    def fail(self):
        self.num_failures += 1
        raise OSError(self.code, os.strerror(self.code))

    def write_bytes(self, path, data) -> int:
        if self.matches(path):
            self.original_write(path, data[: len(data) // 2])
            self.fail()
        return self.original_write(path, data)

    def mkdir(self, path, *args, **kwargs) -> None:
        if self.matches(path) and ".tmp-" in path.name:
            self.fail()
        self.original_mkdir(path, *args, **kwargs)

    def open(self, path, mode="r"):
        return FailingFile(self, path, mode) if self.matches(path) and "w" in mode else open(path, mode)


class FailingFile:
    """A file on a `FailingDisk`."""

    def __init__(self, disk, path, mode) -> None:
        self.disk, self.file = disk, open(path, mode)  # noqa: SIM115

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data) -> None:
        self.file.write(bytes(data)[: len(data) // 2])
        self.disk.fail()


@contextlib.contextmanager
def failing_disk(pattern: str, code: int):
    with pytest.MonkeyPatch.context() as patch:
        yield FailingDisk(patch, pattern, code)


def erase(capfd, folder, model_folder, *options) -> CommandOutput:
    return call(capfd, "erase", "gun", "--out", folder / "e", "--model", model_folder, *QUICK, *options)


@pytest.mark.parametrize(
    ("method", "code", "pattern"),
    [
        ("esd", errno.ENOSPC, r"/\.e\.tmp-"),
        ("negative_prompt", errno.ENOSPC, r"/\.e\.tmp-.*README\.md"),
        ("negative_prompt", errno.EACCES, r"/\.e\.tmp-"),
    ],
)
def test_a_failed_save_keeps_the_old_erasure(capfd, tmp_path, model_folder, erasure_folder, method, code, pattern):
    command = ("erase", "gun", "--out", tmp_path / "e", "--model", model_folder, "--method", method)
    command += QUICK if method == "esd" else ()
    with failing_disk(pattern, code) as disk:
        output = call(capfd, *command)
    assert disk.num_failures
    check_refused(output, f"cannot write {tmp_path / 'e'}", CURES[code], early=False)
    assert ".tmp-" not in output.err
    assert not [name for name in content(tmp_path) if not name.startswith(".e.run")]
    shutil.copytree(erasure_folder, tmp_path / "e")
    before = content(tmp_path / "e")
    with failing_disk(pattern, code) as disk:
        output = call(capfd, *command, "--overwrite")
    assert disk.num_failures
    check_refused(output, CURES[code], early=False)
    assert content(tmp_path / "e") == before
    assert not [name for name in content(tmp_path) if "tmp" in name or ".old" in name]
    assert call(capfd, *command, "--overwrite", "--resume").code == 0, "with free space, the same command continues"
    assert content(tmp_path / "e") != before
    assert not (tmp_path / ".e.run").exists()


def test_a_failed_sync_is_a_failed_save(capfd, tmp_path, model_folder, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("efface.core.io.os.fsync", fail)
    output = call(
        capfd, "erase", "gun", "--out", tmp_path / "e", "--model", model_folder, "--method", "negative_prompt"
    )
    check_refused(output, f"cannot write {tmp_path / 'e'}", "free some space", early=False)
    assert content(tmp_path) == {}


@pytest.mark.parametrize("code", CURES)
def test_a_failed_first_checkpoint_leaves_no_file(capfd, tmp_path, model_folder, monkeypatch, code):
    monkeypatch.setattr("efface.execution.erasure.Run", partial(Run, checkpoint_every=2))
    with failing_disk(r"/\.e\.run", code) as disk:
        output = erase(capfd, tmp_path, model_folder)
    assert disk.num_failures
    check_refused(output, f"cannot write {tmp_path / '.e.run' / 'train-00000002'}", CURES[code], early=False)
    assert content(tmp_path) == {}


@pytest.mark.slow
def test_a_failed_later_checkpoint_keeps_the_one_before(capfd, tmp_path, model_folder, monkeypatch):
    monkeypatch.setattr("efface.execution.erasure.Run", partial(Run, checkpoint_every=2))
    complete = tmp_path / "complete"
    assert call(capfd, "erase", "gun", "--out", complete, "--model", model_folder, *QUICK).code == 0
    with failing_disk(r"train-00000004.*state\.json", errno.ENOSPC) as disk:
        output = erase(capfd, tmp_path, model_folder)
    assert disk.num_failures
    check_refused(output, f"cannot write {tmp_path / '.e.run' / 'train-00000004'}", "free some space", early=False)
    assert [path.name for path in (tmp_path / ".e.run").iterdir() if path.is_dir()] == ["train-00000002"]
    assert not (tmp_path / "e").exists()
    assert erase(capfd, tmp_path, model_folder, "--resume").code == 0
    for name in ("weights.safetensors", "history.json"):
        assert (tmp_path / "e" / name).read_bytes() == (complete / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["complete", "e"]


@pytest.mark.parametrize(("kibibytes", "left"), [(32, []), (160, [".e.run"])])
def test_a_disk_that_is_really_full(kibibytes, left, capfd, tmp_path, model_folder):
    """The first disk is too small for a checkpoint, the second for the erasure beside the checkpoint."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", tmp_path]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk")
    try:
        output = erase(capfd, tmp_path, model_folder)
        check_refused(output, f"cannot write {tmp_path}", "free some space", early=False)
        assert [path.name for path in tmp_path.iterdir()] == left
    finally:
        subprocess.run(["umount", tmp_path], check=True)
