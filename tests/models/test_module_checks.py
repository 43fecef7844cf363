"""Offloaded weights, hooks and adapter layers on a pipeline are refused with the cure, and the cure works."""

from __future__ import annotations

import pytest
import torch
from accelerate import cpu_offload
from helpers.tiny import erasure_of, state_bytes, tiny_model, tiny_pipe
from helpers.tiny_flow import tiny_flux_pipe
from peft import LoraConfig

from efface.core.edits import Edit
from efface.core.errors import EffaceError
from efface.models.loading import load_model
from efface.ops.editing.apply import applied
from efface.ops.tensor_conversion import to_blob


def replacing_erasure(model):
    name, p = next(iter(model.parameter_group("cross_kv").parameters.items()))
    return erasure_of(model, [Edit("unet", "replace", {name: name})], {name: to_blob(p * 0.5)})


def test_weights_offloaded_after_loading_are_refused_and_the_cure_works(tiny):
    erasure, before, pipe = replacing_erasure(tiny), state_bytes(tiny), tiny.pipe
    cpu_offload(pipe.unet, execution_device=torch.device("cpu"))
    for call in (
        lambda: load_model(pipe),
        lambda: tiny.fingerprint(),
        lambda: tiny.parameter_group("cross_kv"),
        lambda: tiny.sample(["a gun"], seeds=[1], num_inference_steps=1),
        lambda: applied(tiny, erasure).__enter__(),
    ):
        with pytest.raises(EffaceError, match=r"unet is offloaded.*pipe\.remove_all_hooks"):
            call()
    pipe.remove_all_hooks()
    with applied(tiny, erasure):
        assert state_bytes(tiny) != before
    assert state_bytes(tiny) == before


def test_sequential_offload_is_refused_and_the_cure_works():
    pipe = tiny_flux_pipe()
    for part in (pipe.text_encoder, pipe.transformer):  # what pipe.enable_sequential_cpu_offload() does on a GPU
        cpu_offload(part, execution_device=torch.device("cpu"))
    with pytest.raises(EffaceError, match=r"text_encoder is offloaded.*remove_all_hooks.*pipe\.to.*offload=True"):
        load_model(pipe)
    pipe.remove_all_hooks()
    assert load_model(pipe.to("cpu")).parameter_group("text_stream").parameters


def test_layerwise_casting_is_refused():
    pipe = tiny_pipe()
    pipe.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    with pytest.raises(EffaceError, match="layerwise casting"):
        load_model(pipe)


@pytest.mark.parametrize(("component", "layer"), [("unet", "to_k"), ("text_encoder", "q_proj")])
def test_adapter_layers_are_refused_in_memory_and_in_a_folder(component, layer, tiny, tmp_path):
    erasure = replacing_erasure(tiny)
    getattr(tiny.pipe, component).add_adapter(LoraConfig(r=2, target_modules=[layer], init_lora_weights="gaussian"))
    with pytest.raises(EffaceError, match=rf"{component} holds adapter layers.*unload_lora_weights"):
        applied(tiny, erasure).__enter__()
    tiny.pipe.save_pretrained(tmp_path / "m")
    with pytest.raises(EffaceError, match=rf"{component} holds (adapter layers|an adapter).*merge"):
        load_model(tmp_path / "m")


def test_fused_attention_is_refused(tiny):
    erasure = replacing_erasure(tiny)
    tiny.pipe.fuse_qkv_projections()
    with pytest.raises(EffaceError, match=r"unet has fused copies.*load it again, without pipe\.fuse_qkv_projections"):
        applied(tiny, erasure).__enter__()


class PackedLinear(torch.nn.Linear):
    """A layer that hands out its weight by a method, as torch's quantized layers do."""

    def weight(self):
        return None


def test_quantized_modules_are_refused():
    integers, packed = tiny_pipe(), tiny_pipe()
    integers.unet.conv_in.weight = torch.nn.Parameter(integers.unet.conv_in.weight.to(torch.int8), requires_grad=False)
    packed.text_encoder.final_layer_norm.__class__ = PackedLinear
    for pipe in (integers, packed):
        with pytest.raises(EffaceError, match=r"quantized weights of a kind that is not supported|mixes precisions"):
            load_model(pipe).fingerprint()


def test_a_pipeline_moved_to_another_precision_keeps_it_when_an_erasure_is_removed(tiny):
    with applied(tiny, replacing_erasure(tiny)):
        tiny.pipe.to(torch.float16)
    assert state_bytes(tiny) == state_bytes(tiny_model(dtype=torch.float16))
    tiny.pipe.unet.to(torch.float32)
    with pytest.raises(EffaceError, match="mixes precisions"):
        tiny.sample(["a gun"], seeds=[1], num_inference_steps=1)
