"""Weights written into a language model or a classifier for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from efface.models.causal_lm import CausalLM
from efface.models.classifier import ClassifierModel


@contextmanager
def written_weights(model: CausalLM | ClassifierModel, params: Mapping[str, Tensor]) -> Iterator[None]:
    """Writes tensors by the module's own parameter names; restores every byte afterwards."""
    parameters = dict(model.module.named_parameters())
    before = {name: parameters[name].detach().clone() for name in params}
    try:
        _copy(parameters, params)
        yield
    finally:
        _copy(parameters, before)


@torch.no_grad()
def _copy(parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        parameters[name].copy_(tensor)
