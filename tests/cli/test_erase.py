"""``efface erase`` on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli import QUICK, call, check_refused, content

from efface.core.erasure import Erasure


def test_an_erasure_from_the_command_line_to_the_report(capfd, tmp_path, model_folder):
    out = tmp_path / "e"
    (tmp_path / "gun.yaml").write_text("name: gun\nsynonyms: [pistol]\nretain_prompts: [a dog]\nanchor: a cat\n")
    (tmp_path / "retain.txt").write_text("a bus\n\n  a pop art print of a bus  \n")
    concept = (tmp_path / "gun.yaml", "--synonym", "rifle", "--retain-file", tmp_path / "retain.txt")
    options = ("--out", out, "--model", model_folder, "--seed", "3", "--preset", "released", "--json")
    output = call(capfd, "erase", *concept, *options, *QUICK)
    assert output.code == 0, output
    data, erasure = json.loads(output.out), Erasure.load(out)
    (concept,) = erasure.concepts
    assert (concept.name, concept.synonyms, concept.anchor) == ("gun", ("pistol", "rifle"), "a cat")
    assert concept.retain_prompts == ("a dog", "a bus", "a pop art print of a bus")
    spec = erasure.spec
    assert (spec.method, spec.preset, spec.seed, spec.model) == ("esd", "released", 3, "tiny")
    assert (spec.config["steps"], spec.config["learning_rate"], spec.config["batch_size"]) == (6, 0.1, 1)
    assert data["folder"] == str(out)
    assert data["effect"]["concept"] > 0.01
    assert data["erasure_hash"] == spec.hash
    assert json.loads(call(capfd, "show", out, "--json").out) == data
    page = Path(json.loads(call(capfd, "report", out, "--json").out)["report"])
    assert page == out / "evidence" / "report.html"
    assert "gun" in page.read_text()
    assert call(capfd, "verify", out).code == 0, "evidence is no part of the artifact"


def test_several_concepts_and_overwriting(capfd, tmp_path, model_folder):
    out = tmp_path / "e"
    options = ("--out", out, "--model", model_folder, *QUICK)
    output = call(capfd, "erase", "gun", "dog", *options)
    assert output.code == 0, output
    assert output.out.splitlines()[-1] == str(out)
    assert output.out.startswith("esd: ")
    assert [concept.name for concept in Erasure.load(out).concepts] == ["gun", "dog"]
    check_refused(call(capfd, "erase", "cat", *options), "exists already", "--overwrite")
    assert [concept.name for concept in Erasure.load(out).concepts] == ["gun", "dog"]
    data = json.loads(call(capfd, "erase", "cat", *options, "--overwrite", "--json").out)
    assert [concept["name"] for concept in data["concepts"]] == ["cat"]
    assert [concept.name for concept in Erasure.load(out).concepts] == ["cat"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--preset", "papr"), ("unknown preset 'papr'", "did you mean 'paper'")),
        (("--set", "stps=3"), ("unknown config field 'stps'", "did you mean 'steps'")),
        (("--set", "steps=1.5"), ("'steps' is a number (int)", "'1.5'")),
        (("--set", "learning_rate=fast"), ("'learning_rate' is a number (float)", "'fast'")),
        (("--set", "learning_rate=nan"), ("'learning_rate' is nan", "--set learning_rate=NUMBER")),
        (("--set", "erase_from=maybe"), ("true or false", "'maybe'")),
        (("--set", "target_modules=cross_al"), ("'cross_al'", "did you mean 'cross_all'")),
        (("--set", "steps=0"), ("0 steps", "1 or more")),
        (("--set", "steps=-5"), ("'steps' is -5, which is below 0", "its range is 200 to 1000")),
        (("--method", "sage"), ("4 retain prompts, not 0", "--retain-file")),
        (
            ("--method", "sage", "cup " * 90),
            ("exceeds the context length, which cuts off", "use a shorter name"),
        ),
    ],
)
def test_a_configuration_that_does_not_fit(capfd, tmp_path, model_folder, options, words):
    fast = ("--set", "num_inference_steps=2")
    output = call(capfd, "erase", "gun", "--out", tmp_path / "x", "--model", model_folder, *fast, *options)
    check_refused(output, *words)
    assert output.out == ""
    assert content(tmp_path) == {}


def test_templates_of_a_file_replace_the_library(capfd, tmp_path, model_folder):
    templates = tmp_path / "templates.txt"
    templates.write_text("a {} x\nmy {}\n")
    common = ("erase", "gun", "--anchor", "cat", "--method", "uce", "--model", model_folder)
    for name, options in (("own", ("--template-file", templates)), ("none", ())):
        output = call(capfd, *common, "--out", tmp_path / name, *options)
        assert output.code == 0, output
    own = Erasure.load(tmp_path / "own")
    assert own.spec.concepts[0].template_library == ("a {} x", "my {}")
    assert own.spec.config["num_templates"] == 2
    edits = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("own", "none")]
    assert edits[0] != edits[1]


@pytest.mark.parametrize(
    ("text", "method", "words"),
    [
        ("a sketch of the woods\n", "uce", ("'a sketch of the woods' has no {}",)),
        ("", "uce", ("has no templates",)),
        ("a {}\n", "sld", ("sld trains on no templates", "leave --template-file out")),
    ],
)
def test_templates_that_cannot_be_used_are_refused(capfd, tmp_path, text, method, words):
    templates = tmp_path / "templates.txt"
    templates.write_text(text)
    output = call(capfd, "erase", "gun", "--out", tmp_path / "x", "--method", method, "--template-file", templates)
    check_refused(output, *words)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_overwrite_replaces_nothing_but_erasures(capfd, tmp_path, model_folder, kind):
    out = tmp_path / "x"
    if kind == "file":
        out.write_text("precious")
    else:
        out.mkdir()
        (out / "thesis.txt").write_text("precious")
    before = content(tmp_path)
    output = call(capfd, "erase", "gun", "--out", out, "--model", model_folder, "--overwrite", *QUICK)
    check_refused(output, str(out), "choose another folder")
    assert content(tmp_path) == before


def test_a_list_in_one_name_is_warned_of_once(capfd, tmp_path, model_folder):
    out = ("--method", "uce", "--set", "num_templates=0", "--out", tmp_path / "e", "--model", model_folder)
    output = call(capfd, "erase", "gun, dog", *out)
    assert output.code == 0, output
    assert output.err.count("is taken as the name of one concept") == 1
