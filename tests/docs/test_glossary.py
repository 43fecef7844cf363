"""The glossary defines the terms that scores, verdicts and artifacts are printed with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from efface.benchmarks.benchmark import SPLITS
from efface.benchmarks.samples import GROUPS
from efface.core.edits import OPS
from efface.reporting.labels import METRICS

GLOSSARY = (Path(__file__).parents[2] / "docs/glossary.md").read_text().lower()
TERMS = " ".join(re.findall(r"^\| ([^|]+) \|", GLOSSARY, re.M))
"""The terms that the glossary defines, without their meanings."""


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_defined(metric):
    term = (
        METRICS[metric]
        .label.lower()
        .removesuffix(", before")
        .removesuffix(", pre-attack")
        .removesuffix(", post-attack")
    )
    assert term in TERMS or f"`{term}`" in GLOSSARY


@pytest.mark.parametrize("term", [*GROUPS, "context", "split", "preset", "caveat", "verdict", "budget"])
def test_terms_of_results_are_defined(term):
    assert term in TERMS


@pytest.mark.parametrize(
    "word", [*OPS, *SPLITS, "erased", "partly erased", "not erased", "kept", "damaged", "inconclusive"]
)
def test_words_of_edits_splits_and_verdicts_are_explained(word):
    assert word in GLOSSARY
