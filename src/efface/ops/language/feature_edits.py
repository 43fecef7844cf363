"""Edits by features of sparse autoencoders: a filter of hidden states, and a change of MLP neurons' outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from efface.core.edits import Edit
from efface.core.manifest import LANGUAGE_COMPONENT as COMPONENT
from efface.core.tensors import TensorBlob
from efface.models.autoencoder import Autoencoder
from efface.models.causal_lm import CausalLM
from efface.models.language_layers import mlp_output
from efface.ops.editing.apply_edits import apply_edit
from efface.ops.tensor_conversion import to_blob

from .answer_probe import AnswerProbe


def filter_edit(autoencoder: Autoencoder, features: Sequence[int], scale: float) -> tuple[Edit, dict[str, TensorBlob]]:
    """Returns the edit that takes features out of the states behind the autoencoder's layer, and its tensors."""
    chosen, encoder = list(features), autoencoder.encoder
    bias = autoencoder.encoder_bias - autoencoder.decoder_bias @ encoder
    tensors = {
        "encoder": encoder[:, chosen],
        "encoder_bias": bias[chosen],
        "decoder": autoencoder.decoder[chosen],
        "threshold": autoencoder.threshold[chosen],
    }
    names = {role: f"{COMPONENT}.{autoencoder.layer}.{role}" for role in tensors}
    params = {"layer": autoencoder.layer, "scale": scale, "normalizes": autoencoder.normalizes}
    edit = Edit(COMPONENT, "state", names, params=params)
    return edit, {names[role]: to_blob(tensor.float()) for role, tensor in tensors.items()}


def neuron_edit(
    model: CausalLM, layer: int, coefficients: Tensor, directions: Tensor
) -> tuple[Edit, dict[str, TensorBlob]]:
    """Returns the edit that adds directions to the output vectors of a layer's MLP neurons, and its tensors.

    Args:
        model: the language model.
        layer: the layer.
        coefficients: weight of each direction in each neuron's output, ``(d_mlp, r)``.
        directions: ``(r, D)``.
    """
    name = next(iter(model.parameter_group(f"mlp_out:{layer}").parameters))
    is_transposed = type(mlp_output(model.layer(layer))).__name__ == "Conv1D"  # (d_mlp, D) instead of (D, d_mlp)
    up, down = (coefficients, directions) if is_transposed else (directions.T, coefficients.T)
    tensors = {f"{name}.up": up, f"{name}.down": down}
    blobs = {role: to_blob(tensor.float().contiguous()) for role, tensor in tensors.items()}
    return Edit(COMPONENT, "low_rank", {role: role for role in tensors}), blobs


def agreement_with(
    model: CausalLM, probe: AnswerProbe, edit: Edit | Sequence[Edit], blobs: Mapping[str, TensorBlob]
) -> float:
    """Returns the probe's share of unchanged answers while edits are applied."""
    edits = [edit] if isinstance(edit, Edit) else edit
    with ExitStack() as undo:
        for item in edits:
            apply_edit(model, item, blobs, undo)  # type: ignore[arg-type]
        return probe.agreement()


def majority_signs(activations: Tensor) -> Tensor:
    """Returns the sign that each neuron's activation has most often, 1 or -1, ``(d_mlp,)``."""
    return torch.where(activations.sign().sum(0) < 0, -1.0, 1.0)
