"""The commands of the tutorials run as written, on tiny models with few images and steps."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from helpers.classifiers import saved_clip
from helpers.cli import call, tiny_folder

TUTORIALS = Path(__file__).parents[2] / "docs/tutorials"
FEWER = {"--limit": "2", "-n": "1"}
"""Values of options in place of the page's."""


def commands_of(page: Path) -> list[list[str]]:
    """The words of every command in the page's shell blocks, with fewer images."""
    lines = "".join(re.findall(r"```sh\n(.*?)```", page.read_text(), re.S)).splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    previous = [["", *words[:-1]] for words in commands]
    rows = [list(zip(*pair, strict=True)) for pair in zip(previous, commands, strict=True) if pair[1]]
    return [[FEWER.get(before, word) for before, word in row] for row in rows]


@pytest.mark.slow
def test_a_concept_of_ones_own_is_erased_evaluated_attacked_and_exported(capfd, tmp_path, monkeypatch):
    tiny_folder(tmp_path / "sd15")
    (tmp_path / "clip-vit-large-patch14").mkdir()
    saved_clip(tmp_path / "clip-vit-large-patch14")
    monkeypatch.chdir(tmp_path)
    for program, *words in commands_of(TUTORIALS / "own_concept.md"):
        assert program == "efface"
        output = call(capfd, *words)
        assert output.code == 0, (words, output)
        if words[:2] == ["benchmarks", "new"]:
            _shorten(tmp_path / "dog.yaml")
    report = (tmp_path / "dog-erased/evidence/report.html").read_text()
    assert all(f'id="{section}"' in report for section in ("scores", "attacks"))
    assert (tmp_path / "sd15-without-dog/model_index.json").is_file()


def _shorten(benchmark: Path) -> None:
    text, count = re.subn(r"num_inference_steps: \d+", "num_inference_steps: 2", benchmark.read_text())
    assert count
    benchmark.write_text(text)
