"""Prediction error in chunks: the value, the gradient and the memory."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_of

from efface.ops.training import chunked_loss
from efface.ops.training.chunked_loss import prediction_error
from efface.ops.training.student import Student


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_chunks_give_the_error_and_gradient_of_the_full_batch(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_of(family)
    student, batch_sizes = Student(model, "text_all"), []
    z, target = torch.randn(2, 5, *model.initial_noise([0]).shape[1:], generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1, 300, 500, 700, 999])
    model.unet.register_forward_pre_hook(lambda _module, args: batch_sizes.append(len(args[0])))

    def error_and_gradients() -> tuple[torch.Tensor, list[torch.Tensor]]:
        batch_sizes.clear()
        cond = student.encode(["a gun", "a cat", "a dog", "gun", ""])
        error = prediction_error(student, z, t, cond, target)
        return error.detach(), list(torch.autograd.grad(3 * error, student.parameters(), allow_unused=True))

    error, expected = error_and_gradients()
    assert batch_sizes == [5]
    monkeypatch.setattr(chunked_loss, "MAX_PIXELS", 2 * model.image_size**2)
    chunked_error, gradients = error_and_gradients()
    assert batch_sizes == [2, 2, 1]
    torch.testing.assert_close(chunked_error, error)
    assert any(gradient is not None and bool(gradient.any()) for gradient in expected)
    for one, other in zip(gradients, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_the_graph_does_not_contain_the_denoiser(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_of("sd1")
    monkeypatch.setattr(chunked_loss, "MAX_PIXELS", model.image_size**2)
    student = Student(model, "text_all")
    cond, z = student.encode(["a gun", "a cat"]), torch.zeros(2, 4, 8, 8)
    error = prediction_error(student, z, torch.tensor([1, 2]), cond, z + 1)
    names, pending = [], [error.grad_fn]
    while pending:
        node = pending.pop()
        if node is not None:
            names.append(type(node).__name__)
            pending += [following for following, _ in node.next_functions]
    assert len(names) > 1
    assert not any("Convolution" in name for name in names)


def test_a_trained_denoiser_gets_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_of("sd1")
    monkeypatch.setattr(chunked_loss, "MAX_PIXELS", model.image_size**2)
    student, z = Student(model, "cross_kv"), torch.ones(2, 4, 8, 8)
    prediction_error(student, z, torch.tensor([1, 2]), model.encode(["a gun", "a cat"]), z).backward()
    assert all(tensor.grad is not None for tensor in student.trainable_params.values())
