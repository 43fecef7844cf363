"""Onto a model and off again: nothing is left behind, and another base is refused."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from helpers.edits import every_op, seen, trained
from helpers.tiny import erasure_of, state_bytes, tiny_model

from efface.core.errors import BaseModelMismatchError, CorruptArtifactError, EffaceError
from efface.ops.editing.apply import active_erasures, applied, apply, remove


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_remove_restores_every_byte(dtype):
    model = tiny_model(dtype=dtype)
    erasure, bytes_before, before = every_op(model), state_bytes(model), seen(model)
    record = apply(model, erasure)
    assert active_erasures(model) == (record,)
    assert state_bytes(model) != bytes_before
    assert not torch.allclose(seen(model), before, atol=0.1)
    assert not record.forced
    remove(model)
    assert state_bytes(model) == bytes_before
    assert torch.equal(seen(model), before)
    assert model.guidance_edits == []
    assert active_erasures(model) == ()


def test_each_edit_alone_has_an_effect_and_comes_off(tiny):
    erasure, before, bytes_before = every_op(tiny), seen(tiny), state_bytes(tiny)
    for edit in erasure.edits:
        with applied(tiny, replace(erasure, edits=(edit,))):
            assert not torch.allclose(seen(tiny), before, atol=1e-4), edit.op
        assert torch.equal(seen(tiny), before), edit.op
    assert state_bytes(tiny) == bytes_before


def test_erasures_stack_and_come_off_in_reverse(tiny):
    first, second = (
        erasure_of(tiny, [edit], tensors)
        for edit, tensors in (trained(tiny, r).replace_edit() for r in ("cross_kv", "cross_all"))
    )
    start = state_bytes(tiny)
    below = apply(tiny, first)
    middle = state_bytes(tiny)
    apply(tiny, second)
    with pytest.raises(EffaceError, match="reverse order"):
        remove(tiny, below)
    remove(tiny)
    assert state_bytes(tiny) == middle
    remove(tiny, below)
    assert state_bytes(tiny) == start
    with pytest.raises(EffaceError, match="no erasure is on"):
        remove(tiny)


def test_with_takes_it_off_after_an_error(tiny):
    erasure, before = every_op(tiny), state_bytes(tiny)
    with pytest.raises(ZeroDivisionError), applied(tiny, erasure):
        raise ZeroDivisionError
    assert state_bytes(tiny) == before


def test_another_base_is_refused_and_a_transfer_recorded(tiny):
    erasure, other = every_op(tiny), tiny_model(seed=1)
    before = state_bytes(other)
    with pytest.raises(BaseModelMismatchError, match=r"text_encoder is \d+\.\d% from") as caught:
        apply(other, erasure)
    assert "\n" not in str(caught.value)
    assert state_bytes(other) == before
    with applied(other, erasure, force=True) as record:
        said = record.record()
        assert said["transfer"] is True
        assert all(0.5 < value < 2 for value in said["distances"].values())
    assert state_bytes(other) == before


def test_a_transfer_that_shares_the_edited_component_says_so(tiny):
    edit, tensors = trained(tiny, "text_mlp").replace_edit()
    erasure = erasure_of(tiny, [edit], tensors)
    with torch.no_grad():
        tiny.unet.conv_in.weight *= 1.5
    with pytest.raises(BaseModelMismatchError, match="although what the erasure edits is the same"):
        apply(tiny, erasure)
    with applied(tiny, erasure, force=True) as record:
        assert record.distances["text_encoder"] == 0
        assert record.distances["unet"] > 0


def test_half_precision_of_the_same_base_is_no_transfer(tiny):
    erasure = every_op(tiny)
    for dtype in (torch.float16, torch.bfloat16):
        with applied(tiny_model(dtype=dtype), erasure) as record:
            assert not record.forced


def test_an_erasure_that_does_not_name_its_base_is_refused(tiny):
    erasure = every_op(tiny)
    for base, match in (({}, "does not say"), ({"text_encoder": "aa"}, "another architecture|does not say")):
        with pytest.raises(BaseModelMismatchError, match=match):
            apply(tiny, replace(erasure, spec=replace(erasure.spec, base=base)))


def test_a_damaged_artifact_is_refused(tiny, tmp_path):
    saved = every_op(tiny).save(tmp_path / "e")
    with applied(tiny, saved):
        pass
    path = tmp_path / "e" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    before = state_bytes(tiny)
    with pytest.raises(CorruptArtifactError):
        apply(tiny, saved)
    assert state_bytes(tiny) == before


def test_a_model_with_an_erasure_can_be_forgotten():
    model = tiny_model()
    apply(model, every_op(model))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
