"""Erasures of FLUX and SD3 in every format: read by diffusers alone, they have the effect of the erasure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from helpers.exports import replacing_erasure, save_erasure
from helpers.tiny import erasure_of
from helpers.tiny_flow import FLOW_PIPES, tiny_flow_of
from safetensors.torch import load_file

from efface import api
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.flow_layout import original_layer, transformer_tensors
from efface.ops.editing.apply import applied
from efface.ops.training.lora import LoraAdapter

families = pytest.mark.parametrize("family", FLOW_PIPES)


def low_rank(model: Any, role: str, rank: int = 2) -> Erasure:
    """A LoRA of a role with random factors."""
    generator = torch.Generator().manual_seed(0)
    adapter = LoraAdapter(model, role, rank, generator)
    for up in adapter.up_factors.values():
        up.data = 0.1 * torch.randn(up.shape, generator=generator)
    edit, tensors = adapter.to_edit()
    return erasure_of(model, [edit], tensors)


def export(model: Any, erasure: Erasure, folder: Path, format: str) -> Path:
    api.export(save_erasure(erasure, folder / "e"), folder / "out", format=format, model=model)
    return folder / "out"


def state(module: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert (tensor - second[name]).abs().max() <= tolerance, name


def edited_transformer(model: Any, erasure: Erasure) -> dict[str, torch.Tensor]:
    before = state(model.transformer)
    with applied(model, erasure):
        after = state(model.transformer)
    assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())
    return after


@pytest.mark.parametrize(
    ("family", "format", "role"),
    [("flux", "peft", "attn_all"), ("sd3", "peft", "attn_all"), ("flux", "kohya", "text_stream")],
)
def test_diffusers_loads_the_lora(family: str, format: str, role: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    model = tiny_flow_of(family)
    erasure = low_rank(model, role)
    folder = export(model, erasure, tmp_path, format)
    (file,) = folder.glob("*.safetensors")
    pipe = tiny_flow_of(family).pipe
    pipe.load_lora_weights(folder, weight_name=file.name)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    assert_equal(state(pipe.transformer), edited_transformer(model, erasure), 1e-6)


@families
def test_kohyas_layers_are_those_of_the_original_checkpoint(family: str, tmp_path: Path) -> None:
    model = tiny_flow_of(family)
    erasure = low_rank(model, "attn_all")
    before = {name: tensor.clone() for name, tensor in transformer_tensors(model.transformer).items()}
    (file,) = export(model, erasure, tmp_path, "kohya").glob("*.safetensors")
    with applied(model, erasure):
        after = transformer_tensors(model.transformer)
    lora, changed = load_file(file), set()
    for name, tensor in after.items():
        layer = f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}"
        if f"{layer}.alpha" in lora:
            scale = float(lora[f"{layer}.alpha"]) / len(lora[f"{layer}.lora_down.weight"])
            delta = scale * lora[f"{layer}.lora_up.weight"] @ lora[f"{layer}.lora_down.weight"]
            assert torch.allclose(delta, tensor - before[name], atol=1e-6), name
            changed.add(layer)
        else:
            assert torch.equal(tensor, before[name]), name
    assert len(changed) == len([name for name in lora if name.endswith(".alpha")])


@families
def test_diffusers_loads_the_edited_components(family: str, tmp_path: Path) -> None:
    model = tiny_flow_of(family)
    erasure = replacing_erasure(model, "text_stream")
    folder = export(model, erasure, tmp_path, "component")
    loaded = type(model.transformer).from_pretrained(folder / "transformer")
    assert_equal(state(loaded), edited_transformer(model, erasure))


@families
def test_a_filter_of_the_states_is_fused_into_the_layer_that_reads_them(family: str, tmp_path: Path) -> None:
    model = tiny_flow_of(family)
    width = int(model.transformer.config.joint_attention_dim)
    matrix = torch.eye(width) + 0.1 * torch.randn(width, width, generator=torch.Generator().manual_seed(0))
    erasure = erasure_of(model, [Edit("transformer", "state", {"matrix": "m"})], {"m": matrix.numpy()})
    folder = export(model, erasure, tmp_path, "component")
    z, cond = model.initial_noise([1]), model.encode(["a gun"])
    with applied(model, erasure), torch.no_grad():
        filtered = model.predict(z, 500, cond).value
    fused = tiny_flow_of(family)
    fused.transformer.load_state_dict(state(type(model.transformer).from_pretrained(folder / "transformer")))
    with torch.no_grad():
        assert torch.allclose(fused.predict(z, 500, cond).value, filtered, atol=1e-5)


def test_diffusers_loads_the_single_file_of_sd3(tmp_path: Path) -> None:
    model = tiny_flow_of("sd3")
    model.pipe.save_pretrained(tmp_path / "base")
    erasure = low_rank(model, "text_stream")
    folder = export(model, erasure, tmp_path, "single-file")
    (file,) = folder.glob("*.safetensors")
    loaded = type(model.transformer).from_single_file(str(file), config=str(tmp_path / "base"), subfolder="transformer")
    assert_equal(state(loaded), edited_transformer(model, erasure))
    assert "SD3Transformer2DModel.from_single_file(" in (folder / "README.md").read_text()


def test_the_single_file_of_flux_has_the_tensors_that_diffusers_converts() -> None:
    """diffusers' converter knows the full width alone, so that this test has shapes without values."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
        converted = convert_flux_transformer_checkpoint_to_diffusers(transformer_tensors(transformer))
    expected = {name: tensor.shape for name, tensor in transformer.state_dict().items()}
    assert {name: tensor.shape for name, tensor in converted.items()} == expected


def test_the_single_file_of_flux_joins_layers_in_order(tmp_path: Path) -> None:
    model = tiny_flow_of("flux")
    erasure = low_rank(model, "attn_all")
    (file,) = export(model, erasure, tmp_path, "single-file").glob("*.safetensors")
    edited, written = edited_transformer(model, erasure), load_file(file)
    parts = [edited[f"single_transformer_blocks.1.{part}.weight"] for part in ("attn.to_q", "attn.to_k", "attn.to_v")]
    joined = torch.cat([*parts, edited["single_transformer_blocks.1.proj_mlp.weight"]])
    assert torch.equal(written["single_blocks.1.linear1.weight"], joined)
    text = [edited[f"transformer_blocks.0.attn.add_{part}_proj.bias"] for part in "qkv"]
    assert torch.equal(written["double_blocks.0.txt_attn.qkv.bias"], torch.cat(text))
    scale, shift = edited["norm_out.linear.weight"].chunk(2)
    assert torch.equal(written["final_layer.adaLN_modulation.1.weight"], torch.cat([shift, scale]))
    name = "double_blocks.0.img_attn.norm.query_norm.scale"
    assert torch.equal(written[name], edited["transformer_blocks.0.attn.norm_q.weight"])
    assert sum(tensor.numel() for tensor in written.values()) == sum(tensor.numel() for tensor in edited.values())


def test_edits_that_a_format_cannot_hold_are_refused(tmp_path: Path) -> None:
    model = tiny_flow_of("flux")
    text = replacing_erasure(model, "text_encoder_2/text_mlp")
    with pytest.raises(EffaceError, match="holds the transformer; the erasure edits text_encoder_2: export it as"):
        export(model, text, tmp_path / "1", "single-file")
    with pytest.raises(EffaceError, match="a layer that LoRA loaders do not support"):
        api.export(save_erasure(text, tmp_path / "2"), tmp_path / "out", format="peft", rank=2, model=model)
    with pytest.raises(EffaceError, match="has no layer 'unknown' in the original layout"):
        original_layer(model.transformer, "unknown")
