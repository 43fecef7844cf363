from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_of

from efface.ops.training import chunked_loss
from efface.ops.training.chunked_loss import prediction_error
from efface.ops.training.student import Student


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_parts_have_the_error_and_the_gradient_of_the_whole(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_of(family)
    student, seen = Student(model, "text_all"), []
    z, target = torch.randn(2, 5, *model.initial_noise([0]).shape[1:], generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1, 300, 500, 700, 999])
    model.unet.register_forward_pre_hook(lambda _module, given: seen.append(len(given[0])))

    def both() -> tuple[torch.Tensor, list[torch.Tensor]]:
        seen.clear()
        cond = student.encode(["a gun", "a cat", "a dog", "gun", ""])
        error = prediction_error(student, z, t, cond, target)
        return error.detach(), list(torch.autograd.grad(3 * error, student.parameters(), allow_unused=True))

    whole, expected = both()
    assert seen == [5]
    monkeypatch.setattr(chunked_loss, "PIXELS", 2 * model.image_size**2)
    parts, found = both()
    assert seen == [2, 2, 1]
    torch.testing.assert_close(parts, whole)
    assert any(gradient is not None and bool(gradient.any()) for gradient in expected)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_the_denoisers_activations_are_gone_before_the_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_of("sd1")
    monkeypatch.setattr(chunked_loss, "PIXELS", model.image_size**2)
    student = Student(model, "text_all")
    cond, z = student.encode(["a gun", "a cat"]), torch.zeros(2, 4, 8, 8)
    error = prediction_error(student, z, torch.tensor([1, 2]), cond, z + 1)
    reached = []
    node = [error.grad_fn]
    while node:
        at = node.pop()
        if at is not None:
            reached.append(type(at).__name__)
            node += [following for following, _ in at.next_functions]
    assert not any("Convolution" in name for name in reached)


def test_a_trained_denoiser_is_predicted_with_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_of("sd1")
    monkeypatch.setattr(chunked_loss, "PIXELS", model.image_size**2)
    student, z = Student(model, "cross_kv"), torch.ones(2, 4, 8, 8)
    prediction_error(student, z, torch.tensor([1, 2]), model.encode(["a gun", "a cat"]), z).backward()
    assert all(master.grad is not None for master in student.masters.values())
