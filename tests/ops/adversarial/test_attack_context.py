"""Context of an attack: applied erasures, and access to the model without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from helpers.edits import every_op, membrane_edit, trained
from helpers.tiny import erasure_of, state_bytes, tiny_model, tiny_of

from efface.core.attack_set import AttackTask
from efface.core.erasure import Erasure
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.adversarial.attack_context import AttackContext, erasure_applied, snapshot_originals
from efface.ops.editing.apply import active_erasures, applied


def text_erasure(model: StableDiffusionModel) -> Erasure:
    return erasure_of(model, *trained(model, "text_mlp", 0.3).replace_edits())


def membranes(model: StableDiffusionModel) -> Erasure:
    edit, tensors = membrane_edit(model, role="text_mlp")
    return erasure_of(model, [edit], tensors)


def test_the_original_is_accessible_while_the_erasure_is_applied() -> None:
    model = tiny_model()
    erasure, original_states, original_bytes = text_erasure(model), model.encode(["a gun"]).states, state_bytes(model)
    original_params = snapshot_originals(model, erasure)
    with erasure_applied(model, erasure) as erasure_disabled:
        assert not torch.equal(model.encode(["a gun"]).states, original_states)
        assert torch.equal(model.encode(["a gun"], params=original_params["text_encoder"]).states, original_states)
        with erasure_disabled():
            assert torch.equal(model.encode(["a gun"]).states, original_states)
        assert not torch.equal(model.encode(["a gun"]).states, original_states)
    assert state_bytes(model) == original_bytes
    assert not active_erasures(model)


def test_an_earlier_erasure_remains_applied() -> None:
    model = tiny_model()
    with applied(model, text_erasure(model)):
        bytes_with_first = state_bytes(model)
        second = text_erasure(tiny_model())
        with erasure_applied(model, replace(second, spec=replace(second.spec, seed=1))):
            assert len(active_erasures(model)) == 2
        assert state_bytes(model) == bytes_with_first
        assert len(active_erasures(model)) == 1


@pytest.mark.parametrize(("family", "make_erasure"), [("sdxl", text_erasure), ("sd1", every_op), ("sd1", membranes)])
def test_the_original_encoder_is_that_without_the_erasure(
    family: str, make_erasure: Callable[[StableDiffusionModel], Erasure]
) -> None:
    model = tiny_of(family)
    assert isinstance(model, StableDiffusionModel)
    tokens, erasure = model.tokenize(["a gun"]), make_erasure(model)
    original = model.encode(tokens)
    context = AttackContext(original_params=snapshot_originals(model, erasure))
    with erasure_applied(model, erasure):
        erased, found = model.encode(tokens), context.original_encoder(model)(tokens)
        assert torch.equal(model.encode(tokens).states, erased.states)
    assert not torch.equal(erased.states, original.states)
    torch.testing.assert_close(found.states, original.states)
    torch.testing.assert_close(found.pooled, original.pooled)


def test_a_batch_s_generator_depends_on_its_first_task_only() -> None:
    context, tasks = AttackContext(), [AttackTask(f"a gun {i}", f"a {{}} {i}", i) for i in range(3)]

    def number(batch: list[AttackTask]) -> float:
        return float(torch.rand(1, generator=context.generator_for(batch)))

    assert number(tasks) == number(tasks[:1])
    assert len({number([task]) for task in tasks}) == 3
