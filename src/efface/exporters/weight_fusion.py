"""Puts an erasure into a model's weights, state edits included where that is exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.models.pipeline_parts import denoiser_name
from efface.ops.editing.apply import active_erasures, applied
from efface.ops.editing.base_check import check_base
from efface.ops.tensor_conversion import to_torch


class PipelineModel(EditableModel, Protocol):
    """A model whose components belong to a diffusers pipeline, ``pipe``."""

    pipe: Any


@dataclass(frozen=True)
class BaseComparison:
    """Comparison of a base model with the one an erasure was made for.

    Attributes:
        distances: Distance by component (see `efface.ops.editing.apply.Applied`).
        base_mismatch: Whether the base models differ.
    """

    distances: Mapping[str, float | None]
    base_mismatch: bool


def edited_components(model: PipelineModel, erasure: Erasure) -> tuple[str, ...]:
    """Components whose weights change; a state edit changes the denoiser, which reads the text states."""
    denoiser = denoiser_name(model.components)
    changed = (denoiser if edit.op == "state" else edit.component for edit in erasure.edits)
    return tuple(dict.fromkeys(component for component in changed if component in model.components))


@contextmanager
def fused_weights(
    model: PipelineModel, erasure: Erasure, allow_base_mismatch: bool = False, left_out: Sequence[Edit] = ()
) -> Iterator[BaseComparison]:
    """Puts the edits into the model's weights for the body of a ``with``, and restores every byte afterwards.

    Args:
        model: The base model.
        erasure: The erasure.
        allow_base_mismatch: Accept a base model other than the erasure's own.
        left_out: Edits that stay out of the weights.

    Raises:
        BaseModelMismatchError: The model is not the erasure's base and no mismatch is allowed.
        EffaceError: Another erasure is applied to the model, or a state edit does not fit into weights.
    """
    if active_erasures(model):
        raise EffaceError(f"an erasure is applied to {model.name} already: remove it first, or load the model again")
    states = [edit for edit in erasure.edits if edit.op == "state"]
    others = tuple(edit for edit in erasure.edits if edit.op != "state" and edit not in left_out)
    matrix = _product(model, erasure, states)
    if others:
        weight_edits = replace(erasure, edits=others, folder=None)
        with applied(model, weight_edits, allow_base_mismatch) as record, _fused(model, matrix):
            yield BaseComparison(record.distances, record.base_mismatch)
        return
    distances, mismatched = check_base(model, erasure, allow_base_mismatch=allow_base_mismatch)
    with _fused(model, matrix):
        yield BaseComparison(distances, bool(mismatched))


def _product(model: PipelineModel, erasure: Erasure, states: list[Edit]) -> Tensor | None:
    """Product M_n ... M_1 of the state edits' matrices, float64 ``(D, D)``; None without state edits."""
    if not states:
        return None
    denoiser = denoiser_name(model.components)
    config: Any = model.components[denoiser].config
    conditioning = [
        key for key in ("encoder_hid_dim_type", "addition_embed_type", "class_embed_type") if getattr(config, key, None)
    ]
    is_unet = denoiser == "unet"
    readers = ("unet", "text_encoder") if is_unet else (denoiser,)
    if conditioning or any(edit.component not in readers for edit in states):
        raise EffaceError(
            "a state edit fits into weights only if cross-attention alone reads a single text encoder, as in SD 1 and 2"
        )
    width = config.cross_attention_dim if is_unet else config.joint_attention_dim
    product = torch.eye(int(width), dtype=torch.float64)
    for edit in states:
        if "matrix" not in edit.tensors:
            continue
        matrix = to_torch(erasure.tensors[edit.tensors["matrix"]]).double()
        if matrix.shape != product.shape:
            raise EffaceError(
                f"the state edit's matrix is {list(matrix.shape)}, the model's text states have width {len(product)}"
            )
        product = matrix @ product
    return product


@contextmanager
def _fused(model: PipelineModel, matrix: Tensor | None) -> Iterator[None]:
    """Multiplies the layers that read the states by M: W (M h) = (W M) h, so W M replaces W."""
    if matrix is None:
        yield
        return
    projections = list(model.parameter_group("reads_text").parameters.values())
    before = [weight.detach().clone() for weight in projections]
    try:
        for weight in projections:
            if weight.ndim == 2:  # the bias of a projection is added after it and does not change
                _copy(weight, weight.double() @ matrix.to(weight.device))
        yield
    finally:
        for weight, old in zip(projections, before, strict=True):
            _copy(weight, old)


@torch.no_grad()
def _copy(weight: Tensor, value: Tensor) -> None:
    weight.copy_(value)
