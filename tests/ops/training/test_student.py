"""The student: it alone gets gradients, the base keeps every byte, and its edits reproduce it."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import state_bytes, tiny_model

from efface.core.errors import EffaceError
from efface.ops.tensor_conversion import to_torch
from efface.ops.training.student import Student


@pytest.mark.parametrize("role", ["cross_kv", "text_mlp", "unet_all", "token_embedding"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_changes_the_student_and_no_byte_of_the_base(role, dtype):
    model = tiny_model(dtype=dtype)
    before = state_bytes(model)
    student = Student(model, role)
    assert all(tensor.dtype == torch.float32 and tensor.is_leaf for tensor in student.parameters())
    optimiser = torch.optim.Adam(student.parameters(), 1e-2)
    z = model.initial_noise([1, 2])
    original = model.predict(z, 500, model.encode(["a gun", "a cat"])).value
    for _ in range(2):
        prediction = student.predict(z, 500, student.encode(["a gun", "a cat"])).value
        loss = (prediction - original - 0.1).float().pow(2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert state_bytes(model) == before
    assert all(p.grad is None for module in model.components.values() for p in module.parameters())
    assert all(tensor.grad is not None for tensor in student.parameters())
    assert sum(float(delta.abs().sum()) > 0 for delta in student.delta().values()) >= 0.5 * len(
        student.trainable_params
    )
    assert torch.equal(model.predict(z, 500, model.encode(["a gun", "a cat"])).value, original)
    assert not torch.equal(student.predict(z, 500, student.encode(["a gun", "a cat"])).value, original)


def test_an_untrained_student_is_the_original(tiny):
    z = tiny.initial_noise([1])
    cond = tiny.encode(["a gun"])
    for role in ("cross_all", "text_all"):
        student = Student(tiny, role)
        assert torch.equal(student.encode(["a gun"]).states, cond.states)
        assert torch.equal(student.predict(z, 7, cond).value, tiny.predict(z, 7, cond).value)
        assert all(float(delta.abs().max()) == 0 for delta in student.delta().values())
        assert student.trainable_params.keys() == tiny.parameter_group(role).parameters.keys()


def test_a_trained_tensor_keeps_steps_that_bfloat16_would_lose():
    student = Student(tiny_model(dtype=torch.bfloat16), "cross_kv")
    with torch.no_grad():
        for tensor in student.parameters():
            tensor += 1e-6
    assert all(float(delta.mean()) == pytest.approx(1e-6, rel=0.1) for delta in student.delta().values())


def test_soft_tokens_reach_the_students_encoder(tiny):
    student = Student(tiny, "text_layers")
    soft = torch.zeros(1, 2, 32, requires_grad=True)
    student.encode(["a gun"], soft=soft).states.pow(2).sum().backward()
    assert soft.grad.abs().sum() > 0
    assert all(tensor.grad is not None for tensor in student.parameters())


def test_a_replace_edit_holds_every_bit(tiny):
    student = Student(tiny, "cross_all")
    with torch.no_grad():
        for i, tensor in enumerate(student.parameters()):
            tensor += 0.01 * i
    edit, tensors = student.replace_edit()
    assert edit.component == "unet"
    assert edit.targets == set(student.trainable_params)
    for name, tensor in student.trainable_params.items():
        assert torch.equal(to_torch(tensors[edit.tensors[name]]), tensor)
    assert {blob.dtype for blob in student.replace_edit(torch.float16)[1].values()} == {"F16"}


def test_a_low_rank_edit_is_the_best_approximation(tiny):
    student = Student(tiny, "cross_kv")
    gen = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in student.parameters():
            rows, columns = tensor.shape
            tensor += torch.randn(rows, 2, generator=gen) @ torch.randn(2, columns, generator=gen)
    for rank, exact in ((2, True), (1, False)):
        edit, tensors = student.low_rank_edit(rank)
        for name, delta in student.delta().items():
            down, up = (to_torch(tensors[edit.tensors[f"{name}.{end}"]]) for end in ("down", "up"))
            assert (down.shape[0], up.shape[1]) == (rank, rank)
            error = float(torch.linalg.matrix_norm(delta - up @ down))
            smallest = float(torch.linalg.svdvals(delta)[rank:].norm())
            assert error == pytest.approx(smallest, rel=1e-3, abs=1e-3)
            assert (error < 1e-3) == exact
    with pytest.raises(EffaceError, match="no matrix"):
        Student(tiny, "cross_all").low_rank_edit(1)
