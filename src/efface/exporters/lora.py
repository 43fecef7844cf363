"""Turns an erasure into LoRA factors: exact for low-rank edits, truncated SVD for replaced matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.pipeline_parts import DENOISERS
from efface.models.tensor_names import canonical_paths, resolve_tensor_name
from efface.ops.tensor_conversion import to_torch

from .formats import WEIGHTS_HINT
from .weight_fusion import BaseComparison, PipelineModel, fused_weights

_TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass(frozen=True)
class LoraFactors:
    """Low-rank change of one weight: ``up @ down`` is added to it.

    Attributes:
        component: Such as ``unet``.
        layer: Canonical name of the layer.
        down: float32 ``(r, i)`` or ``(r, i, h, w)``.
        up: float32 ``(o, r)`` or ``(o, r, 1, 1)``.
        residual: Relative Frobenius error of the factors; None if they are exact.
    """

    component: str
    layer: str
    down: Tensor
    up: Tensor
    residual: float | None = None


ProgressCallback = Callable[[int, int], None]
"""Called with the number of finished layers and the total."""


def lora_factors(
    model: PipelineModel, erasure: Erasure, rank: int | None, allow_base_mismatch: bool, progress: ProgressCallback
) -> tuple[list[LoraFactors], BaseComparison]:
    """Computes the LoRA factors of an erasure, layer by layer, and compares the base model with the erasure's.

    Args:
        model: Base model.
        erasure: Erasure with low-rank and replace edits of matrices (see `efface.exporters.formats.check_format`).
        rank: Rank for the replaced matrices.
        allow_base_mismatch: Accept a base model other than the erasure's own.
        progress: Called with the number of finished layers and the total.

    Raises:
        EffaceError: An edit of a layer that LoRA loaders do not support.
    """
    edited = _edited_weights(model, erasure)
    replaced = {key for key, ops in edited.items() if "replace" in ops}
    originals = {key: _parameter(model, *key).detach().to("cpu", copy=True) for key in replaced}
    factors = []
    with fused_weights(model, erasure, allow_base_mismatch) as base:
        for i, (component, name) in enumerate(edited):
            progress(i, len(edited))
            weight = _parameter(model, component, name)
            residual: float | None = None
            if (component, name) in replaced:
                delta = weight.detach().cpu().double() - originals[component, name].double()
                down, up, residual = truncate_rank(delta.flatten(1), rank or 1)
            else:
                down, up = _exact_factors(model, erasure, component, name)
            factors.append(_reshaped(component, name.removesuffix(".weight"), down, up, weight, residual))
    progress(len(edited), len(edited))
    return factors, base


def truncate_rank(delta: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Computes the best low-rank factors of a matrix by truncated SVD (Eckart and Young, 1936).

    Args:
        delta: float64 ``(o, i)``.
        rank: Maximum rank r.

    Returns:
        ``down`` ``(r, i)``, ``up`` ``(o, r)``, and the relative Frobenius error.
    """
    u, s, v = torch.linalg.svd(delta, full_matrices=False)
    root, energy = s[:rank].sqrt(), s.square()
    error = (energy[rank:].sum() / energy.sum().clamp_min(1e-300)).sqrt()
    return root[:, None] * v[:rank], u[:, :rank] * root, float(error)


def _edited_weights(model: PipelineModel, erasure: Erasure) -> dict[tuple[str, str], set[str]]:
    """Component and canonical name of every edited weight, with the ops of its edits."""
    edited: dict[tuple[str, str], set[str]] = {}
    for edit in erasure.edits:
        if edit.component not in model.components:
            raise EffaceError(f"the erasure edits {edit.component}; {model.name} has {', '.join(model.components)}")
        paths = canonical_paths(model.components[edit.component])
        for target in sorted(edit.targets):
            name = resolve_tensor_name(target, paths)
            _check_lora_layer(model.components[edit.component], edit.component, name, paths)
            edited.setdefault((edit.component, name), set()).add(edit.op)
    return edited


def _check_lora_layer(module: nn.Module, component: str, name: str, paths: Mapping[str, str]) -> None:
    """Raises unless LoRA loaders support the layer: linear and convolution layers of denoisers, linear ones of CLIP."""
    layer = module.get_submodule(paths[name].removesuffix(".weight")) if name.endswith(".weight") else None
    is_text_layer = component.startswith("text_encoder") and name.split(".")[-2] in _TEXT_LAYERS
    if not isinstance(layer, nn.Linear | nn.Conv2d) or not (component in DENOISERS or is_text_layer):
        raise EffaceError(
            f"the erasure edits {name} of {component}, a layer that LoRA loaders do not support: {WEIGHTS_HINT}"
        )


def _parameter(model: PipelineModel, component: str, name: str) -> nn.Parameter:
    module = model.components[component]
    return module.get_parameter(canonical_paths(module)[name])


def _exact_factors(model: PipelineModel, erasure: Erasure, component: str, name: str) -> tuple[Tensor, Tensor]:
    """Concatenated factors of all low-rank edits of a weight, with their scales in ``up``."""
    paths = canonical_paths(model.components[component])
    downs, ups = [], []
    for edit in erasure.edits:
        for target in edit.targets if edit.component == component else ():
            if resolve_tensor_name(target, paths) == name:
                down = to_torch(erasure.tensors[edit.tensors[f"{target}.down"]]).float().flatten(1)
                up = to_torch(erasure.tensors[edit.tensors[f"{target}.up"]]).float().flatten(1)
                downs.append(down)
                ups.append(up * float(edit.params.get("scale", 1.0)))
    return torch.cat(downs), torch.cat(ups, 1)


def _reshaped(
    component: str, layer: str, down: Tensor, up: Tensor, weight: Tensor, residual: float | None
) -> LoraFactors:
    """Factors in the shape of the weight: a convolution's ``down`` has its kernel, its ``up`` a 1 x 1 kernel."""
    down = down.float().reshape(len(down), *(weight.shape[1:] if weight.ndim > 2 else (-1,)))
    up = up.float().reshape(*up.shape, *(1 for _ in weight.shape[2:]))
    return LoraFactors(component, layer, down, up, residual)
