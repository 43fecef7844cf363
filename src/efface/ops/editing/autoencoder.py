"""A TopK sparse autoencoder behind a layer of a text encoder, with some features scaled (ItD, arXiv 2503.09446)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from efface.core.errors import EffaceError

_REPLACED: WeakSet[nn.Module] = WeakSet()
"""Layers whose states an autoencoder replaces."""


def encode_features(states: Tensor, tensors: Mapping[str, Tensor], num_active: int) -> Tensor:
    """Returns the features of states ``(..., D)``, of which ``num_active`` at most are above 0, ``(..., F)``.

    f = ReLU(TopK(W_enc (x - b_pre) + b_lat)) (Makhzani and Frey 2013, arXiv 1312.5663; Gao et al. 2024, arXiv
    2406.04093).

    Args:
        states: x.
        tensors: ``encoder`` W_enc ``(F, D)``, ``encoder_bias`` b_lat ``(F,)``, ``decoder_bias`` b_pre ``(D,)``.
        num_active: k.
    """
    activations = linear(states - tensors["decoder_bias"], tensors["encoder"], tensors["encoder_bias"])
    top, indices = activations.topk(num_active, dim=-1)
    return torch.zeros_like(activations).scatter(-1, indices, top.relu())


def decode_features(features: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Returns W_dec f + b_pre; ``decoder`` W_dec is ``(D, F)``."""
    return linear(features, tensors["decoder"], tensors["decoder_bias"])


@torch.no_grad()
def largest_features(states: Tensor, tensors: Mapping[str, Tensor], num_active: int, count: int) -> Tensor:
    """Returns the features that are among the ``count`` largest of any text and above 0, bool ``(F,)``.

    Args:
        states: states of texts at every position but BOS, ``(P, L, D)``; a feature's value is the largest.
        tensors: see `encode_features`.
        num_active: k.
        count: number of features of a text.
    """
    features = encode_features(states, tensors, num_active).amax(1)
    values, indices = features.topk(min(count, features.shape[1]), dim=-1)
    found = torch.zeros(features.shape[1], dtype=torch.bool, device=features.device)
    found[indices[values > 0]] = True
    return found


@torch.no_grad()
def deactivation_errors(states: Tensor, tensors: Mapping[str, Tensor], num_active: int, strength: float) -> Tensor:
    """Computes m(p) of texts from their states at every position but BOS ``(P, L, D)``, ``(P,)``."""
    features = encode_features(states, tensors, num_active)
    features[..., tensors["features"].long()] *= strength
    return (decode_features(features, tensors) - states).square().mean((1, 2))


def deactivate(states: Tensor, tensors: Mapping[str, Tensor], num_active: int, strength: float) -> Tensor:
    """Reconstructs states ``(B, L, D)`` with the erased features times ``strength``; BOS is unchanged."""
    features = encode_features(states, tensors, num_active)
    features[..., tensors["features"].long()] *= strength
    return torch.cat([states[:, :1], decode_features(features, tensors)[:, 1:]], dim=1)


def reconstruction_error(states: Tensor, reconstructed: Tensor) -> Tensor:
    """Returns the mean squared difference behind BOS, ``(B,)``: m(p), which the gate compares with its threshold."""
    return (reconstructed[:, 1:] - states[:, 1:]).float().square().mean((1, 2))


def insert_autoencoder(
    component: nn.Module, layers: Mapping[str, Mapping[str, Tensor]], params: Mapping[str, Any], undo: ExitStack
) -> None:
    """Puts the deactivated reconstruction in the place of a layer's states where its error reaches the threshold.

    Args:
        component: the text encoder.
        layers: the autoencoder's tensors, by the layer's path.
        params: ``active`` k, ``strength`` of the erased features, ``threshold`` of the error.
        undo: receives the removal.

    Raises:
        EffaceError: another autoencoder replaces the states of a layer, which this one would read.
    """
    num_active, strength = int(params["active"]), float(params["strength"])
    threshold = float(params["threshold"])
    for path, stored in layers.items():

        def change(states: Tensor, stored: Mapping[str, Tensor] = stored) -> Tensor:
            tensors = {
                role: t.to(states.device, None if role == "features" else states.dtype) for role, t in stored.items()
            }
            reconstructed = deactivate(states, tensors, num_active, strength)
            is_target = reconstruction_error(states, reconstructed) >= threshold
            return torch.where(is_target[:, None, None], reconstructed, states)

        def after(_module: nn.Module, _inputs: Any, output: Any, change: Any = change) -> Any:
            return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

        layer = component.get_submodule(path)
        if layer in _REPLACED:
            raise EffaceError(
                f"another erasure replaces the states behind {path!r} already: remove it first, or erase the concepts "
                "in one run"
            )
        _REPLACED.add(layer)
        undo.callback(_REPLACED.discard, layer)
        undo.callback(layer.register_forward_hook(after, prepend=True).remove)
