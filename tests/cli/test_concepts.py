"""Built-in concepts on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from helpers.cli import call, check_refused

from efface.cli.parsing import ConceptOptions, build_concepts
from efface.core.builtin_concepts import get_entry, names
from efface.core.concept import Concept
from efface.core.erasure import Erasure


def test_the_list_and_one_entry(capfd, tmp_path):
    assert [row["name"] for row in json.loads(call(capfd, "concepts", "--json").out)] == list(names())
    assert len(call(capfd, "concepts").out.splitlines()) == len(names())
    (tmp_path / "mine.yaml").write_text(call(capfd, "concepts", "show", "Van Gogh").out)
    (mine,) = build_concepts([str(tmp_path / "mine.yaml")], None, ConceptOptions()).concepts
    assert mine == get_entry("van gogh").concept
    data = json.loads(call(capfd, "concepts", "show", "nudity", "--json").out)
    assert Concept.from_dict(data["concept"]) == get_entry("nudity").concept
    check_refused(call(capfd, "concepts", "show", "vangogh"), "did you mean 'van gogh'")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_letters_that_the_terminal_lacks_are_replaced(encoding):
    command = [sys.executable, "-m", "efface", "concepts", "show", "dali"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    assert ("Dalí" if encoding == "cp1252" else "Dal?").encode(encoding) in done.stdout


def test_a_name_alone_selects_the_built_in_concept(capfd, tmp_path, model_folder):
    erase = ("erase", "Tench", "--method", "negative_prompt", "--model", model_folder)
    output = call(capfd, *erase, "--out", tmp_path / "e")
    assert output.code == 0, output
    assert "built-in concept tench: object; synonyms: tinca tinca" in output.err
    assert Erasure.load(tmp_path / "e").concepts == (get_entry("tench").concept,)
    check_refused(call(capfd, *erase, "--out", tmp_path / "e"), "exists already", "--overwrite")


@pytest.mark.parametrize(
    "option", [("--anchor", "a carp"), ("--kind", "object"), ("--synonym", "doctor fish"), ("--anchor", "")]
)
def test_a_name_with_an_option_is_a_new_concept(option, capfd, tmp_path, model_folder):
    erase = ("erase", "Tench", "--method", "negative_prompt", "--model", model_folder)
    output = call(capfd, *erase, *option, "--out", tmp_path / "e")
    assert (output.code, "built-in" in output.err) == (0, False), output
    assert Erasure.load(tmp_path / "e").concepts[0].retain_prompts == ()


def test_a_template_must_be_filled_in_first(capfd, tmp_path, model_folder):
    output = call(capfd, "erase", "identity-template", "--model", model_folder, "--out", tmp_path / "x")
    check_refused(output, "is to be filled in", "mine.yaml")
