"""Checks that a pipeline's modules hold their own weights: no offloading, no adapter layers, one precision.

Hooks of accelerate and diffusers move weights away between passes or replace passes; adapter layers compute with
weights that no erasure edits. Either would make an erasure fail late, or be wrong silently.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from efface.core.errors import EffaceError

from .placement import placement_of
from .quantization import has_quantized_layers
from .weight_files import check_no_adapter


def check_not_offloaded(modules: Mapping[str, nn.Module]) -> None:
    """Checks that every module's weights are in memory, and that no hooks replace its passes.

    Raises:
        EffaceError: weights are offloaded, or hooks replace passes.
    """
    for name, module in modules.items():
        if any(p.is_meta for p in module.parameters()) or any(map(_is_hooked, module.modules())):
            raise EffaceError(
                f"the pipeline's {name} is offloaded or has hooks that change its passes: call "
                "pipe.remove_all_hooks() and then pipe.to(device), or load it without sequential or group offloading, "
                "device_map, caching and layerwise casting; efface.load_model(pipe, offload=True) and quantized "
                "weights need less memory instead"
            )


def check_own_weights(modules: Mapping[str, nn.Module]) -> None:
    """Checks that every module computes with its own weights only, so that identifying them makes sense.

    Raises:
        EffaceError: weights are offloaded, hooks replace passes, there are adapter layers, or fused copies of
            attention weights.
    """
    check_not_offloaded(modules)
    for name, module in modules.items():
        check_no_adapter((path for path, _ in module.named_parameters()), f"the pipeline's {name}")
        if any(getattr(part, "fused_projections", False) for part in module.modules()):
            raise EffaceError(
                f"the pipeline's {name} has fused copies of its attention weights, which no erasure edits: "
                "load it again, without pipe.fuse_qkv_projections()"
            )


def check_trainable_weights(modules: Mapping[str, nn.Module]) -> None:
    """Checks that every module computes with its own weights only, in a form that can be trained and edited.

    Raises:
        EffaceError: the same as of `check_own_weights`, or weights are quantized.
    """
    check_own_weights(modules)
    for name, module in modules.items():
        if has_quantized_layers(module):
            raise EffaceError(
                f"the pipeline's {name} is quantized, so that its weights cannot be trained or edited: load it in "
                "float32, bfloat16 or float16, or use spm, or erase_anything for FLUX and SD3, which train beside it"
            )


def _is_hooked(module: nn.Module) -> bool:
    """Returns whether accelerate or diffusers runs the module's passes through hooks, other than efface's own."""
    registry = getattr(module, "_diffusers_hook", None)
    is_foreign = hasattr(module, "_hf_hook") and placement_of(module) is None
    return is_foreign or bool(getattr(registry, "hooks", None))


def check_one_precision(modules: Mapping[str, nn.Module]) -> None:
    """Checks that all components share one precision; the autoencoder may be float32 with any other.

    Integers, which quantized weights are, do not count: such a pipeline generates images.

    Raises:
        EffaceError: they do not; the message lists each component's precision.
    """
    precisions = {
        name: {p.dtype for p in module.parameters() if p.is_floating_point()} for name, module in modules.items()
    }
    if precisions.get("vae") == {torch.float32}:
        precisions.pop("vae")  # often kept so: SDXL's overflows in float16
    if len(set().union(*precisions.values())) > 1:
        listed = ", ".join(
            f"{name} {' and '.join(sorted(str(dtype).removeprefix('torch.') for dtype in dtypes))}"
            for name, dtypes in precisions.items()
        )
        raise EffaceError(f"the pipeline mixes precisions ({listed}): choose one with dtype=, or pipe.to(dtype)")
