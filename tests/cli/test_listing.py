"""``efface methods``, ``attacks``, ``benchmarks`` and ``models``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli import call

from efface.benchmarks.benchmark import benchmark_names
from efface.benchmarks.classifier.benchmark import classifier_benchmark_names
from efface.benchmarks.language.benchmark import language_benchmark_names
from efface.core.registry import ATTACKS, METHODS
from efface.models.model_ref import ALL_BUNDLED

NAMES = {
    "methods": METHODS.names(),
    "attacks": ATTACKS.names(),
    "benchmarks": (*benchmark_names(), *language_benchmark_names(), *classifier_benchmark_names()),
    "models": ALL_BUNDLED,
}


@pytest.mark.parametrize("command", NAMES)
def test_every_name_is_listed_as_text_and_as_json(command, capfd):
    lines = call(capfd, command).out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(NAMES[command])
    assert [row["name"] for row in json.loads(call(capfd, command, "--json").out)] == list(NAMES[command])


def test_bundled_models_are_folders(capfd):
    pocket, sibling, flow, janus, language, classifier = json.loads(call(capfd, "models", "--json").out)
    assert (Path(pocket["folder"]) / "model_index.json").is_file()
    assert (Path(sibling["folder"]) / "unet" / "config.json").is_file(), "pocket holds the sibling's other components"
    assert (Path(flow["folder"]) / "transformer" / "config.json").is_file()
    assert (Path(janus["folder"]) / "image_tokenizer" / "codebook.safetensors").is_file()
    assert (language["kind"], classifier["kind"]) == ("language model", "image classifier")
    assert 0 < classifier["bytes"] < 2e6
