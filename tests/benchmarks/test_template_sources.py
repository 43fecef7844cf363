"""The sources of templates that benchmarks/template_sources.py compares."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from efface.core.concept import PLACEHOLDER

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "template_sources.py"


@pytest.fixture
def sources() -> Any:
    spec = importlib.util.spec_from_file_location("template_sources", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_object_of_a_retain_prompt_becomes_the_placeholder_and_its_place_stays(sources: Any) -> None:
    prompts = ["a photo of a wrench in the snow", "a sketch of cutlery at the beach", "a mosaic of a beach", "a cat"]
    assert sources.mined_templates(prompts) == (
        "a photo of a {} in the snow",
        "a sketch of a {} at the beach",
        "a mosaic of a {}",
    )


def test_random_templates_surround_the_concept_with_words_of_the_vocabulary(sources: Any) -> None:
    words = [f"w{i}" for i in range(9)]
    templates = sources.random_templates(words, 5)
    assert len(set(templates)) == 5
    assert templates == sources.random_templates(words, 5), "the same seed draws the same templates"
    for template in templates:
        before, after = (part.split() for part in template.split(PLACEHOLDER))
        assert len(before) == len(after) == 3
        assert {*before, *after} <= set(words)
