"""Mass erasure, revision and Grams from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import Said, call, tiny_folder

from efface.core.erasure import Erasure
from efface.ops.closed_form import GramAccumulator, shared_matrix

Capture = pytest.CaptureFixture[str]


def told(said: Said) -> dict[str, Any]:
    assert said.code == 0, said.err
    data: dict[str, Any] = json.loads(said.out)
    return data


def test_a_file_of_concepts_one_more_and_one_back(capfd: Capture, tmp_path: Path) -> None:
    model = tiny_folder(tmp_path / "tiny")
    listed, retain = tmp_path / "list.txt", tmp_path / "retain.txt"
    listed.write_text("gun\n\npistol\n")
    retain.write_text("a dog\na bus\n")
    erase = ("erase", "--method", "uce", "--model", model)
    data = told(call(capfd, *erase, "--concepts", listed, "--retain-file", retain, "--out", tmp_path / "e", "--json"))
    assert [c["name"] for c in data["concepts"]] == ["gun", "pistol"]
    assert [len(c["retain_prompts"]) for c in data["concepts"]] == [2, 0], "what must stay is held once, for all"
    revise = ("revise", tmp_path / "e", "--model", model)
    data = told(call(capfd, *revise, "--add", "cat", "--drop", "gun", "--out", tmp_path / "f", "--json"))
    assert [c["name"] for c in data["concepts"]] == ["pistol", "cat"]
    listed.write_text("\n \n")
    said = call(capfd, *erase, "--concepts", listed, "--out", tmp_path / "g")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "names no concept: write one a line" in said.err
    listed.write_text("gun\nGun\n")
    assert "'Gun' is given twice" in call(capfd, *erase, "--concepts", listed, "--out", tmp_path / "g").err
    listed.write_text("gun\n")
    retain.write_text("a red gun\n")
    assert (
        "contains 'gun'"
        in call(capfd, *erase, "--concepts", listed, "--retain-file", retain, "--out", tmp_path / "g").err
    )


def test_a_gram_that_is_preserved(capfd: Capture, tmp_path: Path) -> None:
    model, captions = tiny_folder(tmp_path / "tiny"), tmp_path / "captions.txt"
    captions.write_text("a dog\n\na cake\na tent\n")
    made = told(call(capfd, "gram", captions, "--out", tmp_path / "gram", "--model", model, "--json"))
    assert (made["captions"], made["states"], made["width"]) == (3, 48, 32)
    plain = ("erase", "gun", "--method", "uce", "--model", model)
    assert call(capfd, *plain, "--out", tmp_path / "a").code == 0
    assert (
        call(capfd, *plain, "--set", f"gram={tmp_path / 'gram'}", "--set", "gram_scale=1", "--out", tmp_path / "b").code
        == 0
    )
    gram = GramAccumulator.load(tmp_path / "gram").matrix
    moved = [shared_matrix(Erasure.load(tmp_path / name)) - torch.eye(32) for name in "ab"]
    a, b = (float((e @ gram * e).sum()) for e in moved)
    assert b < 0.5 * a, "what the captions are moves less"
    absent = call(capfd, *plain, "--set", f"gram={tmp_path / 'none'}", "--out", tmp_path / "c")
    assert (absent.code, absent.err.count("\n")) == (2, 1)
    assert "holds no Gram" in absent.err
    other = tiny_folder(tmp_path / "other", seed=7)
    foreign = call(capfd, *plain[:-1], other, "--set", f"gram={tmp_path / 'gram'}", "--out", tmp_path / "c")
    assert "another text encoder or tokenizer" in foreign.err
    assert "choose another folder" in call(capfd, "gram", captions, "--out", tmp_path / "gram", "--model", model).err
