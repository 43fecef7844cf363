"""Applying and removing erasures: removal is exact, and another base is refused."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from helpers.edits import every_op, model_output, trained
from helpers.tiny import erasure_of, state_bytes, tiny_model

from efface.core.errors import BaseModelMismatchError, CorruptArtifactError, EffaceError
from efface.ops.editing.apply import active_erasures, applied, apply, remove


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_remove_restores_every_byte(dtype):
    model = tiny_model(dtype=dtype)
    erasure, bytes_before, before = every_op(model), state_bytes(model), model_output(model)
    record = apply(model, erasure)
    assert active_erasures(model) == (record,)
    assert state_bytes(model) != bytes_before
    assert not torch.allclose(model_output(model), before, atol=0.1)
    assert not record.base_mismatch
    remove(model)
    assert state_bytes(model) == bytes_before
    assert torch.equal(model_output(model), before)
    assert model.guidance_edits == []
    assert active_erasures(model) == ()


def test_each_edit_changes_the_model_and_is_removed(tiny):
    erasure, before, bytes_before = every_op(tiny), model_output(tiny), state_bytes(tiny)
    for edit in erasure.edits:
        with applied(tiny, replace(erasure, edits=(edit,))):
            assert not torch.allclose(model_output(tiny), before, atol=1e-4), edit.op
        assert torch.equal(model_output(tiny), before), edit.op
    assert state_bytes(tiny) == bytes_before


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
def test_erasures_stack_and_are_removed_in_any_order(tiny, order):
    first, second = (
        erasure_of(tiny, [edit], tensors)
        for edit, tensors in (trained(tiny, r).replace_edit() for r in ("cross_kv", "cross_all"))
    )
    before = state_bytes(tiny)
    alone = []
    for erasure in (first, second):
        with applied(tiny, erasure):
            alone.append(state_bytes(tiny))
    records = [apply(tiny, first), apply(tiny, second)]
    remove(tiny, records[order[0]])
    assert state_bytes(tiny) == alone[order[1]]
    with pytest.raises(EffaceError, match="is not applied"):
        remove(tiny, records[order[0]])
    remove(tiny, records[order[1]])
    assert state_bytes(tiny) == before
    with pytest.raises(EffaceError, match="has no active erasure"):
        remove(tiny)


def test_applied_removes_the_erasure_after_an_error(tiny):
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
    with applied(other, erasure, allow_base_mismatch=True) as record:
        assert record.base_mismatch
        assert all(0.5 < value < 2 for value in record.distances.values())
    assert state_bytes(other) == before


def test_the_message_tells_if_the_edited_component_matches(tiny):
    edit, tensors = trained(tiny, "text_mlp").replace_edit()
    erasure = erasure_of(tiny, [edit], tensors)
    with torch.no_grad():
        tiny.unet.conv_in.weight *= 1.5
    with pytest.raises(BaseModelMismatchError, match="although the components that the erasure edits match"):
        apply(tiny, erasure)
    with applied(tiny, erasure, allow_base_mismatch=True) as record:
        assert record.distances["text_encoder"] == 0
        assert record.distances["unet"] > 0


def test_half_precision_of_the_same_base_is_no_transfer(tiny):
    erasure = every_op(tiny)
    for dtype in (torch.float16, torch.bfloat16):
        with applied(tiny_model(dtype=dtype), erasure) as record:
            assert not record.base_mismatch


def test_an_erasure_without_a_base_fingerprint_is_refused(tiny):
    erasure = every_op(tiny)
    for base, match in (({}, "does not record"), ({"text_encoder": "aa"}, "another architecture|does not record")):
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


def test_an_active_erasure_does_not_keep_the_model_alive():
    model = tiny_model()
    apply(model, every_op(model))
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None
