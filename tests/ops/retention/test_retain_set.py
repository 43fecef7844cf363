"""Retain prompts: their prediction loss, and the choice of those that drift most."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.models.protocol import Conditioning
from efface.ops.retention.retain_set import RetainSet, top_k_drift
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig

CONCEPT = Concept("gun", retain_prompts=("a cat", "a dog"))


def test_top_k_drift_returns_the_most_changed_and_the_always_included_prompts() -> None:
    original = tiny_model().encode(["a cat", "a dog", "x", ""])
    states = original.states.clone()
    states[1] = -states[1]
    states[2, 3] = -states[2, 3]
    student = Conditioning(states, original.pooled)
    assert top_k_drift(student, original, 2).tolist() == [1, 2]
    assert top_k_drift(student, original, 1, always_included=[3]).tolist() == [1, 3]


def test_prediction_loss_is_zero_before_training_and_grows_with_the_student_s_change() -> None:
    model = tiny_model()
    retain_set = RetainSet.from_concepts(model, [CONCEPT], TrajectoryConfig(1, 2), with_empty_prompt=True, seed=0)
    assert retain_set.empty_prompt_index == (2,)
    student, prompts = Student(model, "text_all"), torch.tensor([0, 2])

    @torch.no_grad()
    def loss() -> float:
        student_cond = student.encode(retain_set.tokens)
        return float(retain_set.prediction_loss(student, student_cond, prompts, torch.Generator().manual_seed(0)))

    assert loss() < 1e-10
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    assert loss() > 1e-6


def test_prompts_are_the_union_of_all_concepts() -> None:
    model, cat = tiny_model(), Concept("dog", retain_prompts=("a cat", "x"))
    retain_set = RetainSet.from_concepts(model, [CONCEPT, cat], TrajectoryConfig(1, 2), with_empty_prompt=False, seed=0)
    assert retain_set.pool.prompts == ("a cat", "a dog", "x")
    assert retain_set.empty_prompt_index == ()
    with pytest.raises(EffaceError, match="nothing to retain"):
        RetainSet.from_concepts(model, [Concept("gun")], TrajectoryConfig(1, 2), with_empty_prompt=False, seed=0)
