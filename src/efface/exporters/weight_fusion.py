"""A model with an erasure in its weights, state edits included where that is exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.ops.editing.apply import active_erasures, applied, check_base
from efface.ops.tensor_conversion import to_torch


class PipelineModel(EditableModel, Protocol):
    """A model that holds a diffusers pipeline, whose components are the model's own."""

    pipe: Any


@dataclass(frozen=True)
class BaseComparison:
    """How the base compares with the one that the erasure was made for (see `efface.ops.editing.apply.Applied`)."""

    distances: Mapping[str, float | None]
    forced: bool


def edited_components(erasure: Erasure) -> tuple[str, ...]:
    """The components that differ once every edit is in the weights: a state edit goes into what reads the states."""
    return tuple(dict.fromkeys("unet" if edit.op == "state" else edit.component for edit in erasure.edits))


@contextmanager
def fused_state(model: PipelineModel, erasure: Erasure, force: bool = False) -> Iterator[BaseComparison]:
    """Puts every edit into the model's weights for the body of a ``with``, and restores every byte after it.

    Raises:
        BaseMismatch: the model is not the base that the erasure was made for, and it is not forced.
        EffaceError: another erasure is on the model, or a state edit that no weight can take up.
    """
    if active_erasures(model):
        raise EffaceError(f"an erasure is on {model.name} already: remove it first, or export from a model of its own")
    states = [edit for edit in erasure.edits if edit.op == "state"]
    rest = tuple(edit for edit in erasure.edits if edit.op != "state")
    matrix = _product(model, erasure, states)
    if rest:
        with applied(model, replace(erasure, edits=rest, folder=None), force=force) as record, _fused(model, matrix):
            yield BaseComparison(record.distances, record.forced)
        return
    distances, other = check_base(model, erasure, force=force)
    with _fused(model, matrix):
        yield BaseComparison(distances, bool(other))


def _product(model: PipelineModel, erasure: Erasure, states: list[Edit]) -> Tensor | None:
    """M_n ... M_1 of the state edits in float64, ``(D, D)``; None for none."""
    if not states:
        return None
    config: Any = model.components["unet"].config
    others = [
        key for key in ("encoder_hid_dim_type", "addition_embed_type", "class_embed_type") if getattr(config, key, None)
    ]
    if others or any(edit.component != "text_encoder" for edit in states):
        raise EffaceError(
            "a state edit goes into weights only where cross-attention alone reads one text encoder, as in SD 1 and 2"
        )
    product = torch.eye(int(config.cross_attention_dim), dtype=torch.float64)
    for edit in states:
        if "matrix" not in edit.tensors:
            continue
        matrix = to_torch(erasure.tensors[edit.tensors["matrix"]]).double()
        if matrix.shape != product.shape:
            raise EffaceError(
                f"the state edit's matrix is {list(matrix.shape)}, the model's states are {len(product)} wide"
            )
        product = matrix @ product
    return product


@contextmanager
def _fused(model: PipelineModel, matrix: Tensor | None) -> Iterator[None]:
    """Keys and values of states H M^T: W (M h) = (W M) h, so that W M stands in for W."""
    if matrix is None:
        yield
        return
    readers = list(model.parameter_group("cross_kv").parameters.values())
    before = [weight.detach().clone() for weight in readers]
    try:
        for weight in readers:
            if weight.ndim == 2:  # a bias of the projection is added after it, and stays
                _copy(weight, weight.double() @ matrix.to(weight.device))
        yield
    finally:
        for weight, old in zip(readers, before, strict=True):
            _copy(weight, old)


@torch.no_grad()
def _copy(weight: Tensor, value: Tensor) -> None:
    weight.copy_(value)
