"""Gradient checkpointing of a denoiser gives the same gradients of replaced parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny import state_bytes, tiny_model
from helpers.tiny_flow import tiny_flow_of

from efface.ops.training.student import Student


def gradients(model: Any, role: str) -> torch.Tensor:
    """Gradients of a student whose parameters differ from the model's."""
    student = Student(model, role)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.3
    predicted = student.predict(model.initial_noise([1]), 500, model.encode(["a gun"]))
    predicted.value.square().mean().backward()
    return torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])


@pytest.mark.parametrize(("family", "role"), [("sd1", "attn_all"), ("sd3", "text_stream"), ("flux", "attn_all")])
def test_checkpointed_blocks_are_recomputed_with_the_replaced_parameters(family: str, role: str) -> None:
    model: Any = tiny_model() if family == "sd1" else tiny_flow_of(family)
    state, expected = state_bytes(model), gradients(model, role)
    model.denoiser.enable_gradient_checkpointing()
    torch.testing.assert_close(gradients(model, role), expected)
    assert state_bytes(model) == state
