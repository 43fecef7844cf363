"""Samples of other erased concepts are excluded."""

from __future__ import annotations

from dataclasses import replace

import torch

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.joint_erasure import exclude_samples, other_erased_targets
from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.spec import RunSpec
from efface.ops.tensor_conversion import to_blob


def erasure_of(*names: str) -> Erasure:
    spec = RunSpec("pocket", {"unet": "f" * 64}, "uce", {}, tuple(Concept(name) for name in names))
    return Erasure(spec, (Edit("unet", "replace", {"w": "w"}),), {"w": to_blob(torch.zeros(2))})


def test_the_benchmarks_own_concept_excludes_nothing() -> None:
    benchmark = Benchmark.load("pocket-weapon")
    assert other_erased_targets(benchmark, erasure_of("weapon")) == ()
    assert other_erased_targets(benchmark, None) == ()
    assert exclude_samples(benchmark.samples(), ()) == benchmark.samples()


def test_samples_of_another_erased_concept_are_excluded() -> None:
    benchmark, style = Benchmark.load("pocket-weapon"), Benchmark.load("pocket-style")
    others = other_erased_targets(
        benchmark, erasure_of("weapon", "santa claus", style.concept.name, "a thing of no benchmark")
    )
    assert [(other.head, other.classes) for other in others] == [
        ("object", frozenset(Benchmark.load("pocket-santa").classes)), ("style", frozenset(style.classes)),
    ]  # fmt: skip
    samples = benchmark.samples()
    remaining = exclude_samples(samples, others)
    excluded = [sample for sample in samples if sample not in remaining]
    assert excluded, "the benchmark uses that style too"
    assert all(
        set(row.expected.get("style", ())) & set(style.classes) or "santa" in str(row.expected["object"])
        for row in excluded
    )
    assert not any(set(row.expected.get("style", ())) & set(style.classes) for row in remaining)
    assert {row.group for row in remaining} == {"name", "domain", "near", "other"}


def test_joint_concepts_are_the_benchmarks_own() -> None:
    twenty = Benchmark.load("pocket-twenty")
    assert other_erased_targets(twenty, erasure_of(*(concept.name for concept in twenty.concepts))) == ()
    some = replace(twenty, joint_concepts=())
    assert other_erased_targets(some, erasure_of(*(concept.name for concept in some.concepts))) == ()
