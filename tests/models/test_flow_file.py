"""SD3 and FLUX from one file: the transformer in the original layout, and more components or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import state_bytes
from helpers.tiny_flow import FLOW_PIPES, tiny_flow_of, tiny_sd3_pipe
from safetensors.torch import save_file

from efface.core.errors import EffaceError
from efface.models.builder import wrap_pipeline
from efface.models.flow_layout import diffusers_tensors, transformer_tensors
from efface.models.loading import load_model
from efface.models.original_layout import vae_tensors

UNET, VAE = "model.diffusion_model.", "first_stage_model."
ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5xxl": "text_encoder_3"}


def write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.fixture(scope="module", params=FLOW_PIPES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A tiny model and its folder."""
    model, folder = tiny_flow_of(request.param), tmp_path_factory.mktemp(request.param) / "base"
    model.pipe.save_pretrained(folder)
    return model, folder


def test_the_transformer_comes_from_the_file_and_the_rest_from_the_folder(saved: Any, tmp_path: Path) -> None:
    model, folder = saved
    other = tiny_flow_of(model.family, seed=1)
    file = write(tmp_path / "fine-tune.safetensors", transformer_tensors(other.transformer))
    loaded = load_model(file, config=folder)
    assert loaded.family == model.family
    bytes_of = {name: state_bytes(m) for name, m in (("loaded", loaded), ("other", other), ("base", model))}
    for name, content in bytes_of["loaded"].items():
        assert content == bytes_of["other" if name.startswith("transformer") else "base"][name], name
    assert load_model(file, config=folder, dtype="bfloat16").transformer.dtype == torch.bfloat16


def test_names_in_the_original_layout_are_converted_back(saved: Any) -> None:
    model, _ = saved
    state = diffusers_tensors(model.transformer, transformer_tensors(model.transformer))
    expected = model.transformer.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state.items())


def test_a_whole_checkpoint_of_sd3_needs_configurations_alone(tmp_path: Path) -> None:
    pipe = tiny_sd3_pipe()
    pipe.save_pretrained(tmp_path / "base")
    for weights in (tmp_path / "base").rglob("*.safetensors"):
        weights.unlink()
    tensors = {UNET + name: tensor for name, tensor in transformer_tensors(pipe.transformer).items()}
    tensors |= dict(vae_tensors(pipe.vae))
    for key, component in ENCODERS.items():
        state = getattr(pipe, component).state_dict()
        tensors |= {f"text_encoders.{key}.transformer.{name}": tensor for name, tensor in state.items()}
    file = write(tmp_path / "whole.safetensors", tensors)
    loaded = load_model(file, config=tmp_path / "base")
    assert state_bytes(loaded) == state_bytes(wrap_pipeline(tiny_sd3_pipe(), "SD3"))
    del tensors["text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight"]
    with pytest.raises(EffaceError, match="lacks 1 of T5's tensors"):
        load_model(write(tmp_path / "less.safetensors", tensors), config=tmp_path / "base")


def test_what_the_file_lacks_is_named(saved: Any, tmp_path: Path) -> None:
    model, folder = saved
    tensors = transformer_tensors(model.transformer)
    file = write(tmp_path / "t.safetensors", tensors)
    name = type(model.pipe).__name__
    with pytest.raises(EffaceError, match=rf"holds the transformer of a {name}: name a folder .*--model-config"):
        load_model(file)
    with pytest.raises(EffaceError, match=r"the config sd1 is no folder in diffusers layout$"):
        load_model(file, config="sd1")
    first = next(key for key in tensors if key.endswith("qkv.weight"))
    with pytest.raises(EffaceError, match=f"transformer lacks 1 of its tensors, such as {first}"):
        load_model(write(tmp_path / "l.safetensors", {k: t for k, t in tensors.items() if k != first}), config=folder)
    with pytest.raises(EffaceError, match=rf"{first} as \(4, 4\), where the config has"):
        load_model(write(tmp_path / "s.safetensors", {**tensors, first: torch.zeros(4, 4)}), config=folder)


def test_a_folder_of_another_model_or_without_weights_is_refused(tmp_path: Path) -> None:
    for family in FLOW_PIPES:
        tiny_flow_of(family).pipe.save_pretrained(tmp_path / family)
    file = write(tmp_path / "flux.safetensors", transformer_tensors(tiny_flow_of("flux").transformer))
    with pytest.raises(
        EffaceError, match=r"belongs to a FluxPipeline, and the config .* to a StableDiffusion3Pipeline"
    ):
        load_model(file, config=tmp_path / "sd3")
    (tmp_path / "flux" / "text_encoder_2" / "model.safetensors").unlink()
    with pytest.raises(EffaceError, match="text_encoder_2 holds no weights in safetensors"):
        load_model(file, config=tmp_path / "flux")
