"""An erasure as a LoRA: the factors of a low-rank edit as they are, those of a replaced matrix by truncated SVD."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.tensor_names import canonical_paths, resolve
from efface.ops.tensor_conversion import to_torch

from .formats import WHOLE
from .weight_fusion import BaseComparison, PipelineModel, fused_state

_TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass(frozen=True)
class Factors:
    """What is added to one weight: ``up @ down``.

    Attributes:
        component: such as ``unet``.
        layer: canonical name of the layer.
        down: float32 ``(r, i)`` or ``(r, i, h, w)``.
        up: float32 ``(o, r)`` or ``(o, r, 1, 1)``.
        residual: relative Frobenius norm of what the factors leave out; None where they are exact.
    """

    component: str
    layer: str
    down: Tensor
    up: Tensor
    residual: float | None = None


Progress = Callable[[int, int], None]


def lora_factors(
    model: PipelineModel, erasure: Erasure, rank: int | None, force: bool, step: Progress
) -> tuple[list[Factors], BaseComparison]:
    """The LoRA of an erasure, layer by layer, and how the base compares.

    Args:
        model: the base.
        erasure: of low-rank and replace edits of matrices (see `efface.exporters.formats.check_form`).
        rank: of the replaced matrices.
        force: whether the base may be another one.
        step: called with the layers done and their number.

    Raises:
        EffaceError: an edit of something that a LoRA loader has no place for.
    """
    targets = _targets(model, erasure)
    replaced = {key for key, ops in targets.items() if "replace" in ops}
    before = {key: _parameter(model, *key).detach().to("cpu", copy=True) for key in replaced}
    found = []
    with fused_state(model, erasure, force) as base:
        for i, (component, name) in enumerate(targets):
            step(i, len(targets))
            weight = _parameter(model, component, name)
            if (component, name) in replaced:
                delta = weight.detach().cpu().double() - before[component, name].double()
                down, up, residual = truncate_rank(delta.flatten(1), rank or 1)
            else:
                (down, up), residual = _exact(model, erasure, component, name), None
            found.append(_shaped(component, name.removesuffix(".weight"), down, up, weight, residual))
    step(len(targets), len(targets))
    return found, base


def truncate_rank(delta: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """The best factors of a rank (Eckart and Young 1936) of ``(o, i)`` in float64, and the relative norm of what they leave out."""
    u, s, v = torch.linalg.svd(delta, full_matrices=False)
    root, energy = s[:rank].sqrt(), s.square()
    left_out = (energy[rank:].sum() / energy.sum().clamp_min(1e-300)).sqrt()
    return root[:, None] * v[:rank], u[:, :rank] * root, float(left_out)


def _targets(model: PipelineModel, erasure: Erasure) -> dict[tuple[str, str], set[str]]:
    """Component and canonical name of every weight that is edited, with the ops that do."""
    found: dict[tuple[str, str], set[str]] = {}
    for edit in erasure.edits:
        if edit.component not in model.components:
            raise EffaceError(f"the erasure edits {edit.component}; {model.name} has {', '.join(model.components)}")
        paths = canonical_paths(model.components[edit.component])
        for target in sorted(edit.targets):
            name = resolve(target, paths)
            _check_place(model.components[edit.component], edit.component, name, paths)
            found.setdefault((edit.component, name), set()).add(edit.op)
    return found


def _check_place(module: nn.Module, component: str, name: str, paths: Mapping[str, str]) -> None:
    """Loaders of LoRAs take the Linear and convolution layers of denoisers and the Linear ones of CLIP's layers."""
    layer = module.get_submodule(paths[name].removesuffix(".weight")) if name.endswith(".weight") else None
    text = component.startswith("text_encoder")
    fits = isinstance(layer, nn.Linear | nn.Conv2d) and (
        component == "unet" or (text and name.split(".")[-2] in _TEXT_LAYERS)
    )
    if not fits:
        raise EffaceError(f"the erasure edits {name} of {component}, which loaders of LoRAs have no place for: {WHOLE}")


def _parameter(model: PipelineModel, component: str, name: str) -> nn.Parameter:
    module = model.components[component]
    return module.get_parameter(canonical_paths(module)[name])


def _exact(model: PipelineModel, erasure: Erasure, component: str, name: str) -> tuple[Tensor, Tensor]:
    """The factors of all low-rank edits of a weight, one below the other, with their scales in ``up``."""
    paths, downs, ups = canonical_paths(model.components[component]), [], []
    for edit in erasure.edits:
        for target in edit.targets if edit.component == component else ():
            if resolve(target, paths) == name:
                down, up = (
                    to_torch(erasure.tensors[edit.tensors[f"{target}.{end}"]]).float().flatten(1)
                    for end in ("down", "up")
                )
                downs.append(down)
                ups.append(up * float(edit.params.get("scale", 1.0)))
    return torch.cat(downs), torch.cat(ups, 1)


def _shaped(component: str, layer: str, down: Tensor, up: Tensor, weight: Tensor, residual: float | None) -> Factors:
    tail = weight.shape[2:]
    down = down.float().reshape(len(down), *weight.shape[1:])
    return Factors(component, layer, down, up.float().reshape(*up.shape, *(1 for _ in tail)), residual)
