"""Joining results: the score of more images stays, and metadata describe the evaluation that counts."""

from __future__ import annotations

from typing import Any

import pytest

from efface.benchmarks.result_join import is_same_erasure, join
from efface.core.result import Result, Score

RUN = {"erasure_hash": "a", "benchmark": {"name": "pocket-weapon"}, "model": "pocket"}


def rate(metric: str, group: str, value: float | None, n: int) -> Score:
    return Score(metric, group, value, value, value, n)


def result(*scores: Score, **metadata: Any) -> Result:
    return Result(scores, {**RUN, **metadata})


ATTACKED = result(rate("asr_post", "synonyms", 0.5, 32), attack_seconds={"synonyms": 3.0})
SMALL = result(rate("rer", "name", 0.9, 32), rate("asr_post", "mma", 0.1, 32), limit=32, attack_seconds={"mma": 1.0})
WHOLE = result(rate("rer", "name", 0.8, 144), rate("asr_post", "mma", 0.2, 32), num_images=700)


@pytest.mark.parametrize("other", [{"erasure_hash": "b"}, {"benchmark": {"name": "pocket-style"}}, {"model": "sd15"}])
def test_results_of_another_erasure_benchmark_or_model_are_told_apart(other: dict[str, Any]) -> None:
    assert is_same_erasure(ATTACKED, WHOLE)
    assert not is_same_erasure(ATTACKED, result(**other))


def test_results_that_name_no_erasure_are_not_taken_for_the_same() -> None:
    assert not is_same_erasure(Result(()), Result(()))


@pytest.mark.parametrize(("first", "second"), [(SMALL, WHOLE), (WHOLE, SMALL)])
def test_more_images_win_and_their_evaluation_is_described(first: Result, second: Result) -> None:
    joined = join(first, second)
    score, attack = joined.score("rer", "name"), joined.score("asr_post", "mma")
    assert (score and score.n, joined.metadata.get("num_images")) == (144, 700)
    assert "limit" not in joined.metadata
    assert attack == first.score("asr_post", "mma")


def test_attacks_join_an_evaluation_with_its_limit() -> None:
    joined = join(ATTACKED, SMALL)
    assert {score.group for score in joined.scores} == {"synonyms", "name", "mma"}
    assert joined.metadata["limit"] == 32
    assert joined.metadata["attack_seconds"] == {"synonyms": 3.0, "mma": 1.0}


def test_a_score_without_a_value_never_replaces_one() -> None:
    joined = join(SMALL, result(rate("rer", "name", None, 500)))
    assert joined.score("rer", "name") == SMALL.score("rer", "name")
