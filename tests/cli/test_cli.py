"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from PIL import Image


def run(*args: str, cwd=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "efface", *args], capture_output=True, text=True, cwd=cwd, timeout=300, check=False
    )


def test_sample_draws_a_labelled_grid(tmp_path):
    done = run(
        "sample",
        "a pencil sketch of a cat in the snow",
        "-n",
        "3",
        "--seed",
        "1",
        "--steps",
        "3",
        "--out",
        "cats.png",
        "--json",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 3
    with Image.open(tmp_path / "cats.png") as image:
        assert image.size[0] > 3 * 128
    assert [p.name for p in tmp_path.iterdir()] == ["cats.png"]


def test_the_empty_prompt_is_allowed(tmp_path):
    done = run("sample", "", "-n", "1", "--steps", "2", "--out", "x.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("sample", "a cat", "--model", "poket"), "did you mean 'pocket'"),
        (("sample", "a cat", "--out", "nowhere/cats.png"), "does not exist"),
        (("sample", "a cat", "--out", "cats.jpg"), ".png"),
    ],
)
def test_errors_are_one_line(args, says, tmp_path):
    done = run(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_long_prompt_warns_and_draws(tmp_path):
    done = run("sample", "cat " * 23 + "owl", "-n", "1", "--steps", "2", "--out", "x.png", cwd=tmp_path)
    assert done.returncode == 0
    assert "cut off" in done.stderr
    assert "owl" in done.stderr


def test_help_and_errors_import_nothing_heavy():
    code = """
import sys
sys.argv = ['efface', {args}]
try:
    from efface.cli import main
    main()
except SystemExit:
    pass
print([m for m in ('torch', 'diffusers', 'transformers', 'numpy') if m in sys.modules], file=sys.stderr)
"""
    for args in ("'--help'", "'sample', '--help'", "'sample', 'a cat', '--model', 'poket'"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(args=args)], capture_output=True, text=True, check=True
        )
        assert done.stderr.strip().splitlines()[-1] == "[]", args


def test_import_is_lazy():
    done = subprocess.run(
        [sys.executable, "-c", "import efface, sys; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_killed_while_drawing_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "efface", "sample", "a cat", "-n", "64", "--out", "cats.png"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    time.sleep(4)
    process.kill()
    process.wait()
    assert not (tmp_path / "cats.png").exists()
