"""The verbs as a user types them: what they print, and what they leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli import QUICK, call, tiny_folder
from PIL import Image

from efface.benchmarks.benchmark import names
from efface.core.erasure import Erasure
from efface.core.registry import ATTACKS, METHODS
from efface.models.loading import BUNDLED


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


def as_json(said):
    """The whole of standard output, which must be JSON in one piece."""
    assert said.code == 0, said
    return json.loads(said.out)


def test_listings(capfd):
    assert [row["name"] for row in as_json(call(capfd, "methods", "--json"))] == list(METHODS.names())
    assert [row["name"] for row in as_json(call(capfd, "attacks", "--json"))] == list(ATTACKS.names())
    assert [row["name"] for row in as_json(call(capfd, "benchmarks", "--json"))] == list(names())
    first, second = as_json(call(capfd, "models", "--json"))
    assert (first["name"], second["name"]) == BUNDLED
    assert (Path(first["folder"]) / "model_index.json").is_file()
    assert (Path(second["folder"]) / "unet" / "config.json").is_file(), "the rest is pocket's"
    for verb, wanted in (
        ("methods", METHODS.names()),
        ("attacks", ATTACKS.names()),
        ("benchmarks", names()),
        ("models", BUNDLED),
    ):
        assert [line.split()[0] for line in call(capfd, verb).out.splitlines()] == list(wanted)


def test_an_erasure_from_the_command_line_to_the_report(capfd, tmp_path, tiny):
    out = tmp_path / "e"
    (tmp_path / "gun.yaml").write_text("name: gun\nsynonyms: [pistol]\nretain: [a dog]\nanchor: a cat\n")
    (tmp_path / "keep.txt").write_text("a bus\n\n  a pop art print of a bus  \n")
    said = call(
        capfd, "erase", tmp_path / "gun.yaml", "--synonym", "rifle", "--retain-file", tmp_path / "keep.txt", "--out", out, "--model", tiny,
        "--seed", "3", "--preset", "released", "--json", *QUICK,
    )  # fmt: skip
    data = as_json(said)
    erasure = Erasure.load(out)
    (concept,) = erasure.concepts
    assert (concept.name, concept.synonyms, concept.anchor) == ("gun", ("pistol", "rifle"), "a cat")
    assert concept.retain_prompts == ("a dog", "a bus", "a pop art print of a bus")
    assert (erasure.spec.method, erasure.spec.preset, erasure.spec.seed, erasure.spec.model) == (
        "esd",
        "released",
        3,
        "tiny",
    )
    assert (erasure.spec.config["steps"], erasure.spec.config["lr"], erasure.spec.config["batch"]) == (6, 0.1, 1)
    assert data["folder"] == str(out)
    assert data["effect"]["concept"] > 0.01
    assert data["run"] == erasure.spec.hash
    assert as_json(call(capfd, "show", out, "--json")) == data
    text = call(capfd, "show", out).out
    assert "gun: esd (released) on tiny, seed 3" in text
    assert "replace of unet" in text
    assert as_json(call(capfd, "verify", out, "--json")) == {"problems": []}
    assert "every file is as it was written" in call(capfd, "verify", out).out
    page = Path(as_json(call(capfd, "report", out, "--json"))["report"])
    assert page == out / "evidence" / "report.html"
    assert "gun" in page.read_text()
    assert call(capfd, "verify", out).code == 0, "evidence is no part of the artifact"


def test_several_concepts_and_overwriting(capfd, tmp_path, tiny):
    out = tmp_path / "e"
    args = ("--out", out, "--model", tiny, *QUICK)
    said = call(capfd, "erase", "gun", "--concept", "dog", *args)
    assert said.code == 0, said
    assert said.out.splitlines()[-1] == str(out)
    assert "the concept's images moved by" in said.out
    assert [concept.name for concept in Erasure.load(out).concepts] == ["gun", "dog"]
    assert call(capfd, "erase", "cat", *args).code == 2
    assert [concept.name for concept in Erasure.load(out).concepts] == ["gun", "dog"]
    data = as_json(call(capfd, "erase", "cat", *args, "--overwrite", "--json"))
    assert [concept["name"] for concept in data["concepts"]] == ["cat"]
    assert [concept.name for concept in Erasure.load(out).concepts] == ["cat"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e"]


def test_sample(capfd, tmp_path, tiny):
    out = tmp_path / "cats.png"
    said = call(
        capfd,
        "sample",
        "a cat",
        "a dog",
        "-n",
        "2",
        "--seed",
        "5",
        "--steps",
        "2",
        "--model",
        tiny,
        "--out",
        out,
        "--json",
    )
    data = as_json(said)
    assert {key: data[key] for key in ("out", "model", "prompts", "images")} == {
        "out": str(out), "model": "tiny", "prompts": ["a cat", "a dog"], "images": 4,
    }  # fmt: skip
    with Image.open(out) as image:
        assert image.format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["cats.png"]
