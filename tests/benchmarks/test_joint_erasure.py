"""Evaluations where more was erased than the benchmark asks about."""

from __future__ import annotations

from dataclasses import replace

import torch

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.joint_erasure import exclude_rows, other_erased_targets
from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.spec import RunSpec
from efface.ops.tensor_conversion import to_blob


def erased(*names: str) -> Erasure:
    spec = RunSpec("pocket", {"unet": "f" * 64}, "uce", {}, tuple(Concept(name) for name in names))
    return Erasure(spec, (Edit("unet", "replace", {"w": "w"}),), {"w": to_blob(torch.zeros(2))})


def test_a_benchmark_s_own_concept_leaves_every_prompt() -> None:
    benchmark = Benchmark.load("pocket-weapon")
    assert other_erased_targets(benchmark, erased("weapon")) == ()
    assert other_erased_targets(benchmark, None) == ()
    assert exclude_rows(benchmark.rows(), ()) == benchmark.rows()


def test_prompts_for_another_concept_that_was_erased_are_left_out() -> None:
    benchmark, style = Benchmark.load("pocket-weapon"), Benchmark.load("pocket-style")
    others = other_erased_targets(
        benchmark, erased("weapon", "santa claus", style.concept.name, "a thing of no benchmark")
    )
    assert [(other.head, other.classes) for other in others] == [
        ("object", frozenset(Benchmark.load("pocket-santa").classes)), ("style", frozenset(style.classes)),
    ]  # fmt: skip
    rows = benchmark.rows()
    kept = exclude_rows(rows, others)
    dropped = [row for row in rows if row not in kept]
    assert dropped, "the benchmark draws in that style, too"
    assert all(
        set(row.expected.get("style", ())) & set(style.classes) or "santa" in str(row.expected["object"])
        for row in dropped
    )
    assert not any(set(row.expected.get("style", ())) & set(style.classes) for row in kept)
    assert {row.group for row in kept} == {"name", "domain", "near", "other"}


def test_concepts_of_one_benchmark_are_its_own() -> None:
    twenty = Benchmark.load("pocket-twenty")
    assert other_erased_targets(twenty, erased(*(concept.name for concept in twenty.concepts))) == ()
    some = replace(twenty, together=())
    assert other_erased_targets(some, erased(*(concept.name for concept in some.concepts))) == ()
