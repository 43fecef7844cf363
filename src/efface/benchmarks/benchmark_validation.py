"""Checks of a benchmark beyond the schema of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from efface.core.errors import EffaceError
from efface.core.policy import check_prompts

from .samples import GROUPS

if TYPE_CHECKING:
    from .benchmark import Benchmark


def validate_benchmark(benchmark: Benchmark) -> None:
    """Check the groups, the retain set and the content policy of a benchmark.

    Raises:
        EffaceError: a split lacks a group, a retain prompt is scored, or the content policy refuses a prompt.
    """
    for split, content in benchmark.splits.items():
        if missing := [group for group in GROUPS if group not in content["groups"]]:
            raise EffaceError(f"split {split!r} of {benchmark.name} has no group {missing[0]!r}")
        prompts = {sample.prompt for sample in benchmark.samples(split)}
        check_prompts((*benchmark.attack_phrases, *sorted(prompts)), f"a prompt of {benchmark.name}")
        if scored := sorted(prompts.intersection(benchmark.concept.retain_prompts)):
            raise EffaceError(f"{benchmark.name} scores the retain prompt {scored[0]!r}: take it out of retain_prompts")
