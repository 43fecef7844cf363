"""Target states of prompts whose concept is erased."""

from __future__ import annotations

import torch

from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.elide.conditioning_distance import ConditioningDistance
from efface.ops.elide.state_targets import StateTargets
from efface.ops.training.student import Student

TEMPLATES = ("a photo of a {} in the forest", "a {} by the sea")


def test_the_loss_is_1_before_training_and_falls(pocket: StableDiffusionModel) -> None:
    targets = StateTargets(pocket, {"owl": TEMPLATES}, ConditioningDistance(pocket))
    student = Student(pocket, "text_all")
    torch.testing.assert_close(targets.all_losses(student), torch.ones(2))
    optimiser = torch.optim.Adam(student.parameters(), 1e-3)
    for _ in range(10):
        optimiser.zero_grad()
        targets.losses(student, torch.arange(2)).mean().backward()
        optimiser.step()
    assert float(targets.all_losses(student).max()) < 0.3
