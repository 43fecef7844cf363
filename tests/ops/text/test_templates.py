"""The template library, template files, and templates without the concept."""

from __future__ import annotations

from pathlib import Path

import pytest

from efface.benchmarks.benchmark import Benchmark, benchmark_names
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.ops.text.templates import (
    concept_templates,
    names_context,
    read_templates,
    remove_concept,
    template_library,
    templates_for_kind,
)


def test_the_library_has_no_test_prompt_of_a_benchmark() -> None:
    for kind in ("object", "style"):
        assert len(set(template_library(kind))) == len(template_library(kind)) >= 60
    scored = {row.prompt for name in benchmark_names() for row in Benchmark.load(name).samples("test")}
    for name in benchmark_names():
        concept = Benchmark.load(name).concept
        training = {
            row for row in concept_templates(concept, template_library(concept.kind)) if " in " in row or " on " in row
        }
        assert not training & scored, "no method trains on a test prompt with a place"


def test_articles_match_the_concept() -> None:
    assert "a photo of an axe" in concept_templates(Concept("axe"), template_library())
    assert "a photo of santa claus" in concept_templates(Concept("santa claus", kind="identity"), template_library())
    assert all("a {}" not in t for t in templates_for_kind(template_library(), "identity"))
    assert len(concept_templates(Concept("gun"), template_library(), 7)) == 7


@pytest.mark.parametrize(
    ("template", "context"),
    [
        ("a sketch of a {} in the woods", "a sketch of the woods"),
        ("a {} at the beach", "the beach"),
        ("{} in outer space", "outer space"),
        ("a sketch of {}", "a sketch"),
        ("a picture in {} style", "a picture"),
        ("a {} of a dog at the beach", "a dog at the beach"),
        ("a {} painting of a castle", "a painting of a castle"),
        ("an apple as a {}", "an apple"),
        ("the sea, {}", "the sea"),
        ("a dog in the style of {}", "a dog"),
        ("a {}", ""),
        ("{}, by night", "by night"),
    ],
)
def test_remove_concept(template: str, context: str) -> None:
    assert remove_concept(template) == context


def test_names_context() -> None:
    assert names_context("a {} on the snow")
    assert not names_context("a photo of a {}")
    assert sum(map(names_context, template_library())) >= 20
    assert all(map(names_context, template_library("style")))


def test_template_files(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("a {}\n\n a {} \nthe {}\n")
    assert read_templates(path) == ("a {}", "the {}")
    for text, message in (("", "no templates"), ("a photo\n", "has no {}")):
        path.write_text(text)
        with pytest.raises(EffaceError, match=message):
            read_templates(path)
    with pytest.raises(EffaceError, match="cannot read"):
        read_templates(tmp_path / "none.txt")
