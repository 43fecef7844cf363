"""Concepts that ship, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli import call, check_refused, tiny_folder

from efface.cli.erase import build_concept
from efface.core.builtin_concepts import get_entry, names
from efface.core.concept import Concept
from efface.core.erasure import Erasure


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


def test_the_list_and_one_of_it(capfd, tmp_path):
    assert [row["name"] for row in json.loads(call(capfd, "concepts", "--json").out)] == list(names())
    assert len(call(capfd, "concepts").out.splitlines()) == len(names())
    said = call(capfd, "concepts", "show", "Van Gogh")
    (tmp_path / "mine.yaml").write_text(said.out)
    assert build_concept(str(tmp_path / "mine.yaml"), [], None, None, None) == get_entry("van gogh").concept
    data = json.loads(call(capfd, "concepts", "show", "nudity", "--json").out)
    assert Concept.from_dict(data["concept"]) == get_entry("nudity").concept
    check_refused(call(capfd, "concepts", "show", "vangogh"), "did you mean 'van gogh'")


def test_a_name_alone_is_the_concept_that_ships(capfd, tmp_path, tiny):
    erase = ("erase", "Tench", "--method", "negative_prompt", "--model", tiny)
    said = call(capfd, *erase, "--out", tmp_path / "e")
    assert said.code == 0, said
    assert "tench as efface ships it: object, tinca tinca" in said.err
    assert Erasure.load(tmp_path / "e").concepts == (get_entry("tench").concept,)
    for i, flags in enumerate(
        (("--anchor", "a carp"), ("--kind", "object"), ("--synonym", "doctor fish"), ("--anchor", ""))
    ):
        said = call(capfd, *erase, *flags, "--out", tmp_path / str(i))
        assert (said.code, "as efface ships it" in said.err) == (0, False), said
        assert Erasure.load(tmp_path / str(i)).concepts[0].retain_prompts == ()
    check_refused(
        call(capfd, "erase", "identity-template", "--model", tiny, "--out", tmp_path / "x"),
        "is to be filled in",
        "mine.yaml",
    )
    check_refused(call(capfd, *erase, "--out", tmp_path / "e"), "is there already")


def test_embedded_models_keep_their_own_retain_sets():
    assert build_concept("weapon", [], None, None, None, "pocket") == Concept("weapon")
    assert build_concept("weapon", [], None, None, None, "pocket-sibling") == Concept("weapon")
    assert build_concept("weapon", [], None, None, None, "some/folder") == get_entry("weapon").concept
