"""``efface benchmarks new`` and ``show``."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers.classifiers import saved_clip
from helpers.cli import call, check_refused

from efface.benchmarks.benchmark import Benchmark


@pytest.mark.filterwarnings("ignore:.*is longer than")
def test_a_written_benchmark_is_explained_and_evaluates_an_erasure(capfd, tmp_path, model_folder, erasure_folder):
    out, clip = tmp_path / "gun.yaml", tmp_path / "clip"
    saved_clip(clip)
    options = ("--model", model_folder, "--domain", "revolver", "--clip", clip, "--out", out)
    output = call(capfd, "benchmarks", "new", "gun", *options)
    assert output.code == 0, output
    benchmark = Benchmark.load(out)
    assert (benchmark.model, benchmark.concept.name, benchmark.detector) == ("tiny", "gun", f"zero-shot:{clip}")
    text = call(capfd, "benchmarks", "show", out).out
    assert "name        36    72   the concept's own name: a gun" in text
    assert text.splitlines()[0] in output.out
    check_refused(call(capfd, "benchmarks", "new", "gun", *options), "exists already", "--overwrite")
    options = ("--benchmark", out, "--model", model_folder, "--limit", "2", "--no-cache-images", "--json")
    evaluated = call(capfd, "evaluate", shutil.copytree(erasure_folder, tmp_path / "e"), *options)
    assert evaluated.code == 0, evaluated
    assert json.loads(evaluated.out)["metadata"]["benchmark"]["name"] == "gun"


def test_a_concept_without_phrases_is_refused(capfd, tmp_path, model_folder):
    options = ("--model", model_folder, "--out", tmp_path / "gun.yaml")
    check_refused(call(capfd, "benchmarks", "new", "gun", *options), "no phrases", "--domain", "--clip")
    check_refused(call(capfd, "benchmarks", "new", "gun", "--out", tmp_path / "gun.txt"), "does not end in .yaml")


def test_benchmarks_of_every_kind_of_model_are_listed_and_explained(capfd):
    rows = json.loads(call(capfd, "benchmarks", "--json").out)
    assert {"pocket-weapon", "pocket-lm-weapon", "pocket-classifier-weapon"} <= {row["name"] for row in rows}
    text = call(capfd, "benchmarks", "show", "pocket-classifier-weapon").out
    assert "near      test images of near classes: hammer" in text
