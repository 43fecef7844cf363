"""The summary of the quick evaluation claims no erasure of destroyed images."""

from __future__ import annotations

import pytest

from efface.benchmarks.quick_evaluation import QuickScore, summarize


def a_score(value: float | None) -> QuickScore:
    return {"value": value, "low": value, "high": value, "n": 30}


@pytest.mark.parametrize(
    ("context", "abstention", "words"),
    [
        (0.9, 0.9, "erased by its name"),
        (0.2, 0.0, "the concept's images are destroyed"),
        (None, 0.9, "the concept's images are destroyed"),
        (None, 0.1, "erased by its name"),
        (None, None, "erased by its name"),
    ],
)
def test_destroyed_images_are_not_called_erased(context: float | None, abstention: float | None, words: str) -> None:
    scores = {"rer": 1.0, "retention": 1.0, "context": context, "abstention": abstention}
    assert words in summarize({name: a_score(value) for name, value in scores.items()})
