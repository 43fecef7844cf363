"""Held words, hardest first."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.models.conditioning import Conditioning
from efface.ops.elide.conditioning_distance import ConditioningDistance
from efface.ops.elide.vocabulary_retention import RetainedStates, VocabularyRetention, conditioning_drift
from efface.ops.training.student import Student


def retention() -> tuple[VocabularyRetention, Student]:
    model = tiny_model()
    student = Student(model, "text_all")
    return VocabularyRetention(student, ConditioningDistance(model), ["cat", "dog"], ["a {}", "my {}"]), student


def move(student: Student, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


def test_drift_is_0_before_training_and_grows_with_the_change() -> None:
    held, student = retention()
    generator = torch.Generator().manual_seed(0)
    assert float(held.loss(4, generator).detach()) == 0
    move(student, 0.01)
    small = float(held.loss(4, generator).detach())
    move(student, 0.05)
    assert 0 < small < float(held.loss(4, generator).detach())


def test_the_words_that_drift_most_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    held, student = retention()
    move(student, 0.02)
    held.measure(torch.Generator().manual_seed(0))
    drift = held.most_drifted()
    assert list(drift) == sorted(drift, key=lambda word: -drift[word])
    assert set(drift) == {"cat", "dog"}
    assert min(drift.values()) > 0
    monkeypatch.setattr("efface.ops.elide.vocabulary_retention.SCAN_LIMIT", 1)
    fresh, other = retention()
    move(other, 0.02)
    fresh.measure(torch.Generator().manual_seed(0))
    assert int(fresh.sampler.measured.sum()) == 1, "of a large vocabulary a part is read"


def test_retain_prompts_and_the_empty_prompt_are_held() -> None:
    model = tiny_model()
    student = Student(model, "text_all")
    retained = RetainedStates(student, ConditioningDistance(model), ["a cat", "", "a cat"])
    assert retained.tokens.ids.shape[0] == 2, "each prompt once, and the empty one"
    assert float(retained.loss().detach()) == 0
    move(student, 0.02)
    assert float(retained.loss().detach()) > 0


def test_the_empty_prompts_drift_is_finite() -> None:
    model = tiny_model()
    with torch.no_grad():
        original = model.encode(["a cat", ""])
    current = Conditioning(original.states + 0.1, original.pooled)
    drift = conditioning_drift(ConditioningDistance(model), current, original)
    assert bool(drift.isfinite().all())
    assert bool((drift > 0).all())
