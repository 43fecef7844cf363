"""Transfer of an erasure between models with the same and with different text encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.edits import membrane_edit, trained
from helpers.tiny import erasure_of, tiny_model

from efface.core.erasure import Erasure
from efface.core.errors import BaseModelMismatchError
from efface.execution import transfer_erasure
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.apply import applied


def text_erasure(model: StableDiffusionModel) -> Erasure:
    return erasure_of(model, *trained(model, "text_mlp", 0.3).replace_edits())


def with_other_denoiser(model: StableDiffusionModel) -> StableDiffusionModel:
    other = tiny_model(seed=1)
    other.text_encoder.load_state_dict(model.text_encoder.state_dict())
    other.name = "other"
    return other


def test_an_erasure_transfers_to_a_model_with_the_same_text_encoder(tmp_path: Path) -> None:
    model = tiny_model()
    erasure, other = text_erasure(model), with_other_denoiser(model)
    moved = transfer_erasure(other, erasure, tmp_path / "e", allow_base_mismatch=False, overwrite=False, progress=None)
    assert moved.spec.model == "other"
    assert moved.effect is not None
    assert moved.effect["transfer"]["from"] == erasure.spec.hash
    assert moved.effect["transfer"]["distances"] == {"text_encoder": pytest.approx(0, abs=1e-3)}
    with applied(other, Erasure.load(tmp_path / "e")):  # its base is the other model now: no mismatch to allow
        assert not torch.equal(other.encode(["a gun"]).states, model.encode(["a gun"]).states)


def test_another_text_encoder_needs_allow_base_mismatch(tmp_path: Path) -> None:
    erasure, other = text_erasure(tiny_model()), tiny_model(seed=5)
    with pytest.raises(BaseModelMismatchError, match=r"text_encoder is .*%"):
        transfer_erasure(other, erasure, tmp_path / "e", allow_base_mismatch=False, overwrite=False, progress=None)
    moved = transfer_erasure(other, erasure, tmp_path / "e", allow_base_mismatch=True, overwrite=False, progress=None)
    assert moved.effect is not None
    assert moved.effect["transfer"]["base_mismatch"] is True


def test_a_gated_membrane_transfers_if_the_text_encoder_is_the_same(tmp_path: Path) -> None:
    """A membrane works in a sibling without training; its gate reads the prompt's states."""
    model = tiny_model()
    edit, tensors = membrane_edit(model, ["gun"])
    part = erasure_of(model, [edit], tensors)
    tuned = with_other_denoiser(model)
    moved = transfer_erasure(tuned, part, tmp_path / "e", allow_base_mismatch=True, overwrite=False, progress=None)
    assert moved.effect is not None
    assert moved.effect["transfer"]["distances"]["text_encoder"] == pytest.approx(0, abs=1e-3)
    assert moved.effect["gates"][0]["strengths"]
    with pytest.raises(BaseModelMismatchError, match=r"text_encoder is .*%|unet is .*%"):
        transfer_erasure(
            tiny_model(seed=5), part, tmp_path / "x", allow_base_mismatch=False, overwrite=False, progress=None
        )


def test_a_gate_for_another_text_encoder_is_refused(tmp_path: Path) -> None:
    model, other = tiny_model(), tiny_model(seed=5)
    other.unet.load_state_dict(model.unet.state_dict())
    edit, tensors = membrane_edit(model, ["gun"])
    part = erasure_of(model, [edit], tensors)
    with pytest.raises(BaseModelMismatchError, match=r"its text_encoder is .*% from the one the erasure was made for"):
        transfer_erasure(other, part, tmp_path / "x", allow_base_mismatch=False, overwrite=False, progress=None)
