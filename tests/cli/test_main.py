"""``efface sample``, and the command line in a process of its own: errors, imports and a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from helpers import processes
from helpers.cli import call
from PIL import Image

HEAVY = ("torch", "diffusers", "transformers", "numpy")
IMPORTED_BY_MAIN = f"""
import sys
sys.argv = ["efface", *sys.argv[1:]]
try:
    from efface.cli import main
    main()
except SystemExit:
    pass
print([module for module in {HEAVY} if module in sys.modules], file=sys.stderr)
"""


def run(*args: str, cwd=None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "efface", *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


@pytest.mark.slow
def test_sample_saves_a_labelled_grid(tmp_path):
    args = ("-n", "3", "--seed", "1", "--steps", "3", "--out", "cats.png", "--json")
    process = run("sample", "a pencil sketch of a cat in the snow", *args, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["images"] == 3
    with Image.open(tmp_path / "cats.png") as image:
        assert image.size[0] > 3 * 128
    assert [path.name for path in tmp_path.iterdir()] == ["cats.png"]


def test_the_empty_prompt_is_allowed(tmp_path, capfd):
    output = call(capfd, "sample", "", "-n", "1", "--steps", "2", "--out", tmp_path / "x.png")
    assert output.code == 0, output.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("sample", "a cat", "--model", "poket"), "did you mean 'pocket'"),
        (("sample", "a cat", "--out", "nowhere/cats.png"), "does not exist"),
        (("sample", "a cat", "--out", "cats.jpg"), "--out cats.png"),
    ],
)
def test_errors_are_one_line(args, message, tmp_path):
    process = run(*args, cwd=tmp_path)
    assert process.returncode == 2
    assert message in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_long_prompt_warns_and_generates(tmp_path, capfd):
    output = call(capfd, "sample", "cat " * 23 + "owl", "-n", "1", "--steps", "2", "--out", tmp_path / "x.png")
    assert output.code == 0
    assert "cut off" in output.err
    assert "owl" in output.err
    assert (tmp_path / "x.png").is_file()


@pytest.mark.parametrize("args", [("--help",), ("sample", "--help"), ("sample", "a cat", "--model", "poket")])
def test_help_and_errors_import_nothing_heavy(args):
    command = [sys.executable, "-c", IMPORTED_BY_MAIN, *args]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stderr.strip().splitlines()[-1] == "[]"


def test_importing_the_package_imports_no_torch():
    command = [sys.executable, "-c", "import efface, sys; print('torch' in sys.modules)"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"


def test_a_kill_while_generating_leaves_no_file(tmp_path, tmp_path_factory):
    command = ("sample", "a cat", "-n", "64", "--out", tmp_path / "cats.png")
    process = processes.start(processes.run_command, command, tmp_path_factory.mktemp("output") / "sample", {})
    time.sleep(2)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not list(tmp_path.iterdir())
