"""What SAGE's self-erasure asks of a student."""

from __future__ import annotations

import torch

from efface.models.unet import UNetModel
from efface.ops.self_erasure import SelfErasure
from efface.ops.sentences import Runs, Sentences
from efface.ops.student import Student


def test_a_sentence_moves_as_far_as_where_the_concept_is_not_named(pocket: UNetModel) -> None:
    templates = ("a photo of a {} in the snow", "a sketch of a {} in the woods")
    domain = Sentences.of(pocket, ["owl"], templates, Runs(1, 4, 3.0), 0)
    student = Student(pocket, "text_all")
    gone = SelfErasure(student, "without", 0.0, away=True)
    batch = domain.draw(8, torch.Generator().manual_seed(0))
    _, near = gone(domain, batch)
    assert 0.2 < float(near.detach()) < 1, "unedited, every sentence is what it was: 1 less what is left without the concept"
    assert float(SelfErasure(student, "without", 0.0, away=False)(domain, batch)[1]) == 0
    optimiser = torch.optim.Adam(student.parameters(), lr=2e-4)
    for _ in range(40):
        optimiser.zero_grad()
        error, near = gone(domain, batch)
        (error + near).backward()  # near alone has no slope where nothing has moved
        optimiser.step()
    assert float(near.detach()) < 0.05


def test_the_prediction_s_error_is_that_of_the_target(pocket: UNetModel) -> None:
    domain = Sentences.of(pocket, ["owl"], ("a photo of a {} in the snow",), Runs(1, 4, 3.0), 0)
    batch = domain.draw(3, torch.Generator().manual_seed(0))
    student = Student(pocket, "text_all")
    error, _ = SelfErasure(student, "without", 0.0, away=False)(domain, batch)
    target = domain.target(pocket, batch, None, "without", 0.0)
    assert torch.allclose(error.detach(), (batch.conditional - target).square().mean(), rtol=1e-3)
