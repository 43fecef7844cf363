"""The way back to the unedited model, and an erasure carried over to another one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import erasure_of, state_bytes, tiny_model

from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import BaseModelMismatchError
from efface.execution import transfer_erasure
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.adversarial.attack_context import erasure_applied, snapshot_originals
from efface.ops.editing.apply import active_erasures, applied
from efface.ops.tensor_conversion import to_blob


def text_edit(model: StableDiffusionModel) -> Erasure:
    sites = model.parameter_group("text_mlp")
    tensors = {name: to_blob(p.detach() * 1.5) for name, p in sites.parameters.items()}
    return erasure_of(model, [Edit("text_encoder", "replace", {name: name for name in tensors})], tensors)


def sibling(model: StableDiffusionModel) -> StableDiffusionModel:
    """Another denoiser, the same text encoder."""
    other = tiny_model(seed=1)
    other.text_encoder.load_state_dict(model.text_encoder.state_dict())
    other.name = "sibling"
    return other


def test_what_was_there_before_is_at_hand_during_an_attack() -> None:
    model = tiny_model()
    erasure, clean, bytes_before = text_edit(model), model.encode(["a gun"]).states, state_bytes(model)
    unedited = snapshot_originals(model, erasure)
    with erasure_applied(model, erasure) as unerased:
        assert not torch.equal(model.encode(["a gun"]).states, clean)
        assert torch.equal(model.encode(["a gun"], params=unedited["text_encoder"]).states, clean)
        with unerased():
            assert torch.equal(model.encode(["a gun"]).states, clean)
        assert not torch.equal(model.encode(["a gun"]).states, clean)
    assert state_bytes(model) == bytes_before
    assert not active_erasures(model)


def test_an_erasure_below_stays_where_it_is() -> None:
    model = tiny_model()
    with applied(model, text_edit(model)):
        first = state_bytes(model)
        with erasure_applied(model, text_edit(tiny_model())):
            pass
        assert state_bytes(model) == first
        assert len(active_erasures(model)) == 1


def test_carried_over_to_a_model_with_the_same_text_encoder(tmp_path: Path) -> None:
    model = tiny_model()
    erasure, other = text_edit(model), sibling(model)
    moved = transfer_erasure(other, erasure, tmp_path / "e", force=False, overwrite=False, progress=None)
    assert moved.spec.model == "sibling"
    assert moved.effect is not None
    assert moved.effect["transfer"]["from"] == erasure.spec.hash
    assert moved.effect["transfer"]["distances"] == {"text_encoder": pytest.approx(0, abs=1e-3)}
    with applied(other, Erasure.load(tmp_path / "e")):  # no force: it is an erasure for this model now
        assert not torch.equal(other.encode(["a gun"]).states, model.encode(["a gun"]).states)


def test_another_text_encoder_is_refused_and_may_be_forced(tmp_path: Path) -> None:
    erasure, other = text_edit(tiny_model()), tiny_model(seed=5)
    with pytest.raises(BaseModelMismatchError, match=r"text_encoder is .*%"):
        transfer_erasure(other, erasure, tmp_path / "e", force=False, overwrite=False, progress=None)
    moved = transfer_erasure(other, erasure, tmp_path / "e", force=True, overwrite=False, progress=None)
    assert moved.effect is not None
    assert moved.effect["transfer"]["forced"] is True
