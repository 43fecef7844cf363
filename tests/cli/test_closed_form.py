"""Mass erasure, revision and Gram matrices from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import CommandOutput, call, check_refused, tiny_folder

from efface.core.erasure import Erasure
from efface.ops.closed_form import GramAccumulator, shared_matrix

Capture = pytest.CaptureFixture[str]


def as_json(output: CommandOutput) -> dict[str, Any]:
    assert output.code == 0, output.err
    data: dict[str, Any] = json.loads(output.out)
    return data


def test_concepts_from_a_file_are_erased_and_revised(capfd: Capture, tmp_path: Path, model_folder: Path) -> None:
    names, retain = tmp_path / "names.txt", tmp_path / "retain.txt"
    names.write_text("gun\n\npistol\n")
    retain.write_text("a dog\na bus\n")
    erase = ("erase", "--method", "uce", "--model", model_folder, "--concepts", names, "--retain-file", retain)
    data = as_json(call(capfd, *erase, "--out", tmp_path / "e", "--json"))
    assert [c["name"] for c in data["concepts"]] == ["gun", "pistol"]
    assert [len(c["retain_prompts"]) for c in data["concepts"]] == [2, 0], "the first concept holds them for all"
    revise = ("revise", tmp_path / "e", "--model", model_folder, "--add", "cat", "--drop", "gun")
    data = as_json(call(capfd, *revise, "--out", tmp_path / "f", "--json"))
    assert [c["name"] for c in data["concepts"]] == ["pistol", "cat"]


@pytest.mark.parametrize(
    ("names", "retain_prompts", "words"),
    [
        ("\n \n", "a dog\n", ("names no concept: write one name per line",)),
        ("gun\nGun\n", "a dog\n", ("'Gun' is given twice",)),
        ("gun\n", "a red gun\n", ("contains 'gun'",)),
    ],
)
def test_a_file_of_concepts_that_does_not_fit(
    names: str, retain_prompts: str, words: tuple[str, ...], capfd: Capture, tmp_path: Path, model_folder: Path
) -> None:
    (tmp_path / "names.txt").write_text(names)
    (tmp_path / "retain.txt").write_text(retain_prompts)
    files = ("--concepts", tmp_path / "names.txt", "--retain-file", tmp_path / "retain.txt")
    output = call(capfd, "erase", "--method", "uce", "--model", model_folder, *files, "--out", tmp_path / "g")
    check_refused(output, *words)
    assert not (tmp_path / "g").exists()


def test_a_gram_matrix_preserves_its_captions(capfd: Capture, tmp_path: Path, model_folder: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a dog\n\na cake\na tent\n")
    gram = ("gram", captions, "--out", tmp_path / "gram", "--model", model_folder)
    data = as_json(call(capfd, *gram, "--json"))
    assert (data["captions"], data["states"], data["width"]) == (3, 48, 32)
    erase = ("erase", "gun", "--method", "uce", "--model", model_folder)
    preserve = ("--set", f"gram_folder={tmp_path / 'gram'}", "--set", "gram_scale=1")
    assert call(capfd, *erase, "--out", tmp_path / "a").code == 0
    assert call(capfd, *erase, *preserve, "--out", tmp_path / "b").code == 0
    matrix = GramAccumulator.load(tmp_path / "gram").matrix
    changes = [shared_matrix(Erasure.load(tmp_path / name)) - torch.eye(32) for name in "ab"]
    without, with_gram = (float((change @ matrix * change).sum()) for change in changes)
    assert with_gram < 0.5 * without, "the captions' states change less"
    check_refused(call(capfd, *gram), "choose another folder")


def test_a_gram_matrix_that_does_not_fit(capfd: Capture, tmp_path: Path, model_folder: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a dog\n")
    assert call(capfd, "gram", captions, "--out", tmp_path / "gram", "--model", model_folder).code == 0
    erase = ("erase", "gun", "--method", "uce", "--out", tmp_path / "c")
    missing = call(capfd, *erase, "--model", model_folder, "--set", f"gram_folder={tmp_path / 'none'}")
    check_refused(missing, "holds no Gram", "efface gram")
    other = tiny_folder(tmp_path / "other", seed=7)
    foreign = call(capfd, *erase, "--model", other, "--set", f"gram_folder={tmp_path / 'gram'}")
    check_refused(foreign, "another text encoder or tokenizer")
