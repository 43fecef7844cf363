"""The order of the verdict's findings: better scores and fewer attacks never give a worse verdict."""

from __future__ import annotations

from dataclasses import replace

from helpers.example_scores import score
from hypothesis import given
from hypothesis import strategies as st

from efface.core.score import Score
from efface.core.verdict import Verdict

ERASURE = ("not erased", "inconclusive", "partly erased", "erased")
RETENTION = ("damaged", "inconclusive", "kept")
ATTACK = ("broken", "inconclusive", "withstands")
"""Findings from worst to best."""


BOUNDS = st.lists(st.floats(-0.2, 1.2), min_size=2, max_size=2).map(sorted)
METRICS = [
    ("rer", "name"), ("rer", "domain"), ("abstention_rate", "name"), ("abstention_rate", "domain"),
    ("retention", "context"), ("retention", "near"), ("retention", "other"),
]  # fmt: skip
LOWER_IS_BETTER = ("abstention_rate", "asr_post")


@st.composite
def measured_scores(draw: st.DrawFn) -> list[Score]:
    """Any scores that the verdict reads: some missing, some of too few images, up to three attacks, some limited."""
    groups = draw(st.lists(st.sampled_from(METRICS), unique=True, min_size=4))
    groups += [("asr_post", label) for label in ("a", "b", "c")[: draw(st.integers(0, 3))]]
    made = []
    for metric, group in groups:
        low, high = draw(BOUNDS)
        plain = score(metric, group, low, high, draw(st.sampled_from((29, 100))))
        extra = {"limit": 9} if metric == "asr_post" and draw(st.booleans()) else {}
        made.append(replace(plain, provenance=replace(plain.provenance, extra=extra)))
    return made


def better(worse: Score, by_low: float, by_high: float) -> Score:
    """The score with its bounds moved in the good direction, in order."""
    assert worse.low is not None
    assert worse.high is not None
    sign = -1 if worse.metric in LOWER_IS_BETTER else 1
    low, high = worse.low + sign * by_low, worse.high + sign * by_high
    low, high = (min(low, high), high) if sign < 0 else (low, max(low, high))
    return replace(worse, low=low, high=high)


def ranks(verdict: Verdict) -> tuple[int, int, int]:
    """The place of each finding in its order; -1 for an erasure that was not attacked."""
    attack = verdict.attack.partition(" by ")[0]
    place = ATTACK.index(attack) if attack in ATTACK else -1
    return ERASURE.index(verdict.erasure), RETENTION.index(verdict.retention), place


@given(measured_scores(), st.data())
def test_better_scores_never_give_a_worse_verdict(worse: list[Score], data: st.DataObject) -> None:
    gains = st.sampled_from((0.0, 0.1, 0.4, 1.0))
    improved = [better(item, data.draw(gains), data.draw(gains)) for item in worse]
    before, after = Verdict.of(worse), Verdict.of(improved)
    assert all(new >= old for old, new in zip(ranks(before), ranks(after), strict=True))
    assert after.passed >= before.passed


@given(measured_scores(), BOUNDS, st.sampled_from((29, 100)))
def test_one_more_attack_never_gives_a_better_verdict(made: list[Score], bounds: list[float], n: int) -> None:
    before = Verdict.of(made)
    after = Verdict.of([*made, score("asr_post", "another", *bounds, n)])
    assert (after.erasure, after.retention) == (before.erasure, before.retention)
    if before.attack != "not attacked":
        assert ranks(after)[2] <= ranks(before)[2]
        assert after.passed <= before.passed
