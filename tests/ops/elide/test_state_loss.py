"""The erasure losses: prediction error and state loss."""

from __future__ import annotations

import pytest
import torch

from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.elide.state_loss import ErasureLoss
from efface.ops.text.concept_prompts import ConceptPrompts
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig


def test_state_loss_alone_also_reduces_the_prediction_error(pocket: StableDiffusionModel) -> None:
    templates = ("a photo of a {} in the snow", "a sketch of a {} in the woods")
    prompts = ConceptPrompts.from_templates(pocket, ["owl"], templates, TrajectoryConfig(1, 4, 3.0), 0)
    student = Student(pocket, "text_all")
    erasure_loss = ErasureLoss(student, "concept_free", 0.0, with_states=True)
    batch = prompts.sample(8, torch.Generator().manual_seed(0))
    error, state_loss = erasure_loss(prompts, batch)
    initial_error = float(error.detach())
    assert float(state_loss.detach()) == pytest.approx(1, abs=1e-4), "1 before training"
    assert float(ErasureLoss(student, "concept_free", 0.0, with_states=False)(prompts, batch)[1]) == 0
    optimiser = torch.optim.Adam(student.parameters(), lr=5e-4)
    for _ in range(60):
        optimiser.zero_grad()
        error, state_loss = erasure_loss(prompts, batch)
        state_loss.backward()
        optimiser.step()
    assert float(state_loss.detach()) < 0.1
    assert float(error.detach()) < 0.1 * initial_error


def test_prediction_error_is_relative_to_the_target(pocket: StableDiffusionModel) -> None:
    templates = ("a photo of a {} in the snow",)
    prompts = ConceptPrompts.from_templates(pocket, ["owl"], templates, TrajectoryConfig(1, 4, 3.0), 0)
    batch = prompts.sample(3, torch.Generator().manual_seed(0))
    error, _ = ErasureLoss(Student(pocket, "text_all"), "concept_free", 0.0, with_states=False)(prompts, batch)
    target = prompts.target(pocket, batch, None, "concept_free", 0.0)
    assert torch.allclose(error.detach(), (batch.conditional - target).square().mean(), rtol=1e-3)
