"""Erasing from a quantized FLUX: the weights stay codes, and a LoRA in float32 acts beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_flow import tiny_flux_pipe
from safetensors.torch import load_file
from torch import nn

from efface import api
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import BaseModelMismatchError, EffaceError
from efface.models.builder import wrap_pipeline
from efface.models.quantization import has_quantized_layers
from efface.ops.editing.apply import applied
from efface.ops.tensor_conversion import to_torch

CONCEPT = Concept("gun", anchor="dog", retain_prompts=("a cat", "the photo"))
LIBRARIES = ("torchao", "bitsandbytes")
SETTINGS: dict[str, dict[str, Any]] = {
    "erase_anything": {
        "steps": 6, "learning_rate": 1e-2, "num_images": 2, "num_inference_steps": 2, "target_modules": "attn_all",
        "num_irrelevant": 1,
    },
    "spm": {"steps": 4, "learning_rate": 1e-2, "num_inference_steps": 2, "anchor_weight": 0.0},
}  # fmt: skip


def quantize(transformer: Any, library: str) -> None:
    """Quantizes the layers of all blocks to 8 bits (torchao) or 4 bits (bitsandbytes)."""
    package = pytest.importorskip(library)
    blocks = (transformer.transformer_blocks, transformer.single_transformer_blocks)
    if library == "torchao":
        for part in blocks:
            package.quantization.quantize_(part, package.quantization.Int8WeightOnlyConfig())
        return
    for part in blocks:
        for path, layer in [(path, layer) for path, layer in part.named_modules() if isinstance(layer, nn.Linear)]:
            new = package.nn.Linear4bit(layer.in_features, layer.out_features, compute_dtype=torch.float32)
            new.load_state_dict(layer.state_dict())
            parent, _, name = path.rpartition(".")
            setattr(part.get_submodule(parent), name, new.to("cpu"))


def quantized_model(library: str) -> Any:
    pipe = tiny_flux_pipe()
    quantize(pipe.transformer, library)
    assert has_quantized_layers(pipe.transformer)
    return wrap_pipeline(pipe, "tiny-quantized")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_lora_is_trained_applied_and_exported(library: str, tmp_path: Path) -> None:
    model = quantized_model(library)
    settings = SETTINGS["erase_anything"]
    api.erase(CONCEPT, out=tmp_path / "e", model=model, method="erase_anything", config=settings)
    erasure = Erasure.load(tmp_path / "e")
    assert {to_torch(blob).dtype for blob in erasure.tensors.values()} == {torch.float32}
    z, cond = model.initial_noise([1]), model.encode(["a gun"])
    with torch.no_grad():
        before = model.predict(z, 500, cond).value
        with applied(model, erasure):
            after = model.predict(z, 500, cond).value
        assert torch.equal(model.predict(z, 500, cond).value, before)
    assert (after - before).abs().max() > 1e-3
    api.export(tmp_path / "e", tmp_path / "lora", format="peft", model=model)
    factors = load_file(tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    assert factors["transformer.transformer_blocks.0.attn.to_q.lora_A.weight"].shape == (8, 32)
    api.export(tmp_path / "e", tmp_path / "kohya", format="kohya", model=model)
    (file,) = (tmp_path / "kohya").glob("*.safetensors")
    assert load_file(file)["lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight"].shape[0] == 3 * 32
    with pytest.raises(EffaceError, match=r"is quantized, so that no edit is written.*export a LoRA \(peft, kohya\)"):
        api.export(tmp_path / "e", tmp_path / "whole", format="component", model=model)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_lora_fits_the_unquantized_model_if_the_mismatch_is_allowed(library: str, tmp_path: Path) -> None:
    model = quantized_model(library)
    api.erase(CONCEPT, out=tmp_path / "e", model=model, method="spm", config=SETTINGS["spm"])
    erasure, plain = Erasure.load(tmp_path / "e"), wrap_pipeline(tiny_flux_pipe(), "tiny")
    with (
        pytest.raises(BaseModelMismatchError, match=r"its transformer is \d+\.\d% from the one"),
        applied(plain, erasure),
    ):
        pass
    prediction = {}
    for name, other in (("quantized", model), ("plain", plain)):
        z, cond = other.initial_noise([1]), other.encode(["a gun"])
        with torch.no_grad():
            before = other.predict(z, 500, cond).value
            with applied(other, erasure, allow_base_mismatch=True):
                prediction[name] = other.predict(z, 500, cond).value - before
    error = (prediction["quantized"] - prediction["plain"]).norm() / prediction["plain"].norm()
    assert error < 0.3


def test_hooks_train_the_same_lora_as_replaced_weights(tmp_path: Path) -> None:
    """Only the rounding of the weights differs: with weights that int8 represents, the factors are nearly equal."""
    pytest.importorskip("torchao")
    quantized, plain = quantized_model("torchao"), wrap_pipeline(tiny_flux_pipe(), "tiny")
    layers = dict(plain.transformer.named_modules())
    for path, layer in quantized.transformer.named_modules():
        if isinstance(layer, nn.Linear) and has_quantized_layers(layer):
            layers[path].weight.data.copy_(layer.weight.dequantize())
    factors = []
    for name, model in (("q", quantized), ("p", plain)):
        settings = {**SETTINGS["erase_anything"], "steps": 3}
        api.erase(CONCEPT, out=tmp_path / name, model=model, method="erase_anything", config=settings)
        factors.append({key: to_torch(blob) for key, blob in Erasure.load(tmp_path / name).tensors.items()})
    assert factors[0].keys() == factors[1].keys()
    assert all(torch.allclose(tensor, factors[1][key], atol=1e-4) for key, tensor in factors[0].items())


def test_gradient_checkpointing_recomputes_with_the_lora(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    factors = []
    for name in ("plain", "checkpointed"):
        model = quantized_model("torchao")
        if name == "checkpointed":
            model.transformer.enable_gradient_checkpointing()
        settings = {**SETTINGS["erase_anything"], "steps": 3}
        api.erase(CONCEPT, out=tmp_path / name, model=model, method="erase_anything", config=settings)
        factors.append({key: to_torch(blob) for key, blob in Erasure.load(tmp_path / name).tensors.items()})
    assert all(torch.allclose(tensor, factors[1][key], atol=1e-6) for key, tensor in factors[0].items())


@pytest.mark.parametrize("method", ["esd", "uce"])
def test_other_methods_refuse_quantized_weights_before_they_generate(method: str, tmp_path: Path) -> None:
    model = quantized_model("torchao")
    model.sample = pytest.fail
    with pytest.raises(EffaceError, match=r"transformer is quantized: .* or choose --method erase_anything or neg"):
        api.erase(CONCEPT, out=tmp_path / "e", model=model, method=method)
