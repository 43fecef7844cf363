"""What SAGE's self-erasure asks of a student."""

from __future__ import annotations

import pytest
import torch

from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.elide.state_loss import ErasureLoss
from efface.ops.text.concept_prompts import ConceptPrompts, TrajectoryConfig
from efface.ops.training.student import Student


def test_a_sentence_comes_to_say_what_it_says_without_the_concept(pocket: StableDiffusionModel) -> None:
    templates = ("a photo of a {} in the snow", "a sketch of a {} in the woods")
    domain = ConceptPrompts.of(pocket, ["owl"], templates, TrajectoryConfig(1, 4, 3.0), 0)
    student = Student(pocket, "text_all")
    gone = ErasureLoss(student, "without", 0.0, said=True)
    batch = domain.draw(8, torch.Generator().manual_seed(0))
    error, said = gone(domain, batch)
    before = float(error.detach())
    assert float(said.detach()) == pytest.approx(1, abs=1e-4), "unedited, every sentence is as far as it ever was"
    assert float(ErasureLoss(student, "without", 0.0, said=False)(domain, batch)[1]) == 0
    optimiser = torch.optim.Adam(student.parameters(), lr=5e-4)
    for _ in range(60):
        optimiser.zero_grad()
        error, said = gone(domain, batch)
        said.backward()
        optimiser.step()
    assert float(said.detach()) < 0.1
    assert float(error.detach()) < 0.1 * before, "without a look at the denoiser, it predicts what is asked for"


def test_the_prediction_s_error_is_that_of_the_target(pocket: StableDiffusionModel) -> None:
    domain = ConceptPrompts.of(pocket, ["owl"], ("a photo of a {} in the snow",), TrajectoryConfig(1, 4, 3.0), 0)
    batch = domain.draw(3, torch.Generator().manual_seed(0))
    student = Student(pocket, "text_all")
    error, _ = ErasureLoss(student, "without", 0.0, said=False)(domain, batch)
    target = domain.target(pocket, batch, None, "without", 0.0)
    assert torch.allclose(error.detach(), (batch.conditional - target).square().mean(), rtol=1e-3)
