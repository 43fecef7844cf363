"""Transfer of an erasure to another model, with the same or with other text encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.cli import call, check_refused
from helpers.edits import membrane_edit, trained
from helpers.tiny import erasure_of, tiny_of, tiny_pipe, tiny_sd2_pipe, tiny_sdxl_pipe

from efface import api
from efface.core.errors import BaseModelMismatchError, EffaceError
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.apply import applied, apply


def saved(model: StableDiffusionModel, out: Path, role: str = "text_mlp", step: float = 0.3) -> Path:
    """Saves an erasure of a trained student and returns its folder."""
    erasure_of(model, *trained(model, role, step).replace_edits()).save(out, readme="x")
    return out


def sharing(pipe, other, *components):
    """Returns ``other`` with these components of ``pipe``."""
    other.register_modules(**{name: getattr(pipe, name) for name in components})
    return other


def test_an_sdxl_erasure_is_transferred_to_another_denoiser(tmp_path):
    model = tiny_of("sdxl")
    artifact = saved(model, tmp_path / "e")
    other = StableDiffusionModel(sharing(model.pipe, tiny_sdxl_pipe(1), "text_encoder", "text_encoder_2"), "other")
    moved = api.transfer(artifact, other, out=tmp_path / "moved")
    assert moved.effect["transfer"]["distances"] == {"text_encoder": 0.0, "text_encoder_2": 0.0}
    assert not moved.effect["transfer"]["base_mismatch"]
    assert "DiffusionPipeline" in (tmp_path / "moved" / "README.md").read_text()
    before = other.encode(["a gun"])
    with applied(other, moved):
        after = other.encode(["a gun"])
    assert not torch.allclose(before.states[..., :32], after.states[..., :32], atol=1e-3)
    assert not torch.allclose(before.states[..., 32:], after.states[..., 32:], atol=1e-3)
    with pytest.raises(BaseModelMismatchError, match="although the components that the erasure edits match"):
        apply(
            StableDiffusionModel(sharing(model.pipe, tiny_sdxl_pipe(2), "text_encoder", "text_encoder_2"), "third"),
            moved,
        )


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_the_message_gives_the_distance_of_text_encoders(family, tmp_path):
    model, near, far = tiny_of(family), tiny_of(family), tiny_of(family, seed=1)
    artifact = saved(model, tmp_path / "e")
    with torch.no_grad():
        for weight in near.text_encoder.parameters():
            weight *= 1.02
    with pytest.raises(
        BaseModelMismatchError, match=r"its text_encoder is 2\.\d% from the one the erasure was made for; pass --allow"
    ):
        api.transfer(artifact, near, out=tmp_path / "near")
    with pytest.raises(BaseModelMismatchError, match=r"its text_encoder is 1\d\d\.\d% from"):
        api.transfer(artifact, far, out=tmp_path / "far")
    forced = api.transfer(artifact, near, out=tmp_path / "near", allow_base_mismatch=True)
    assert forced.effect["transfer"]["base_mismatch"]
    assert 0.015 < forced.effect["transfer"]["distances"]["text_encoder"] < 0.025


def test_another_width_is_refused_in_one_line(tmp_path, capfd):
    model = tiny_of("sd1")
    artifact = saved(model, tmp_path / "e")
    wide = tiny_pipe(text={"hidden_size": 48}, unet={"cross_attention_dim": 48})
    wide.save_pretrained(tmp_path / "wide")
    for options in ({}, {"allow_base_mismatch": True}):
        with pytest.raises(EffaceError) as caught:
            api.transfer(artifact, StableDiffusionModel(wide, "wide"), out=tmp_path / "x", **options)
        assert "\n" not in str(caught.value)
        assert "[64, 48]" in str(caught.value)
        assert "[64, 32]" in str(caught.value)
    with pytest.raises(
        BaseModelMismatchError, match="wide cannot take this erasure: its text_encoder has another size"
    ):
        api.transfer(artifact, StableDiffusionModel(wide, "wide"), out=tmp_path / "x")
    result = call(capfd, "transfer", artifact, "--to", tmp_path / "wide", "--out", tmp_path / "x")
    check_refused(result, "wide cannot take this erasure", "another size")


def test_another_family_is_refused(tmp_path):
    one, xl = tiny_of("sd1"), tiny_of("sdxl")
    of_one, of_xl = saved(one, tmp_path / "one"), saved(xl, tmp_path / "xl")
    with pytest.raises(BaseModelMismatchError, match="another architecture"):
        api.transfer(of_one, StableDiffusionModel(tiny_sd2_pipe(), "two"), out=tmp_path / "x")
    with pytest.raises(
        BaseModelMismatchError,
        match="tiny-sd1 has no text_encoder_2, which the erasure edits: the erasure cannot be transferred",
    ):
        api.transfer(of_xl, one, out=tmp_path / "x")


def test_an_unedited_second_text_encoder_gives_a_warning(tmp_path):
    xl = tiny_of("sdxl")
    one = StableDiffusionModel(sharing(xl.pipe, tiny_pipe(pad="!"), "text_encoder", "tokenizer"), "one")
    artifact = saved(one, tmp_path / "one", "text_mlp")
    with pytest.warns(UserWarning, match="this erasure does not edit text_encoder_2, which tiny-sdxl reads as well"):
        moved = api.transfer(artifact, xl, out=tmp_path / "x")
    assert [edit.component for edit in moved.edits] == ["text_encoder"]


@pytest.mark.parametrize("other", ["text_encoder", "text_encoder_2"])
def test_a_gate_of_another_text_encoder_is_refused(other, tmp_path):
    """A gate reads the states of every text encoder, also where the edit is of the denoiser."""
    xl = tiny_of("sdxl")
    edit, tensors = membrane_edit(xl, ["gun"])
    erasure_of(xl, [edit], tensors).save(tmp_path / "e", readme="x")
    shared = {"unet", "text_encoder", "text_encoder_2"} - {other}
    strange = StableDiffusionModel(sharing(xl.pipe, tiny_sdxl_pipe(1), *shared), "strange")
    with pytest.raises(BaseModelMismatchError, match=rf"its {other} is \d+\.\d% from the one the erasure was made for"):
        api.transfer(tmp_path / "e", strange, out=tmp_path / "x")


def test_an_erasure_of_the_denoiser_gives_no_warning_about_text_encoders(tmp_path, recwarn):
    xl = tiny_of("sdxl")
    edit, tensors = membrane_edit(xl, ["gun"])
    erasure_of(xl, [edit], tensors).save(tmp_path / "e", readme="x")
    api.transfer(tmp_path / "e", xl, out=tmp_path / "x")
    assert not [str(warning.message) for warning in recwarn if "reads as well" in str(warning.message)]
