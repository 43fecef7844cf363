"""PISCES' search for a concept's features and its change of MLP neurons' output vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.edits import Edit
from efface.core.tensors import TensorBlob
from efface.models.autoencoder import Autoencoder
from efface.models.causal_lm import CausalLM

from .concept_features import activities, concept_tokens, rank_features, vocabulary_signs
from .feature_edits import majority_signs, neuron_edit
from .text_batches import TextBatches

SIGN_TEXTS = 64
"""Number of texts on which the signs of the neurons' activations are read."""


@dataclass(frozen=True)
class LayerFeatures:
    """Features of one layer to suppress.

    Attributes:
        autoencoder: the layer's autoencoder.
        features: indices of the features.
        signs: s_f of each feature: -1 if it makes the concept's tokens likelier, 1 if less likely, ``(r,)``.
        neuron_signs: g_j: the sign of each neuron's activation on the concept's tokens, ``(d_mlp,)``.
    """

    autoencoder: Autoencoder
    features: list[int]
    signs: Tensor
    neuron_signs: Tensor

    def subset(self, places: Sequence[int]) -> LayerFeatures:
        """Returns the features at these places."""
        chosen = [self.features[i] for i in places]
        return LayerFeatures(self.autoencoder, chosen, self.signs[list(places)], self.neuron_signs)


def find_features(
    model: CausalLM, autoencoders: Mapping[int, Autoencoder], forget: TextBatches, retain: TextBatches, *,
    count: int, max_frequency: float, top_k: int, min_tokens: int, signed: bool,
) -> list[LayerFeatures]:  # fmt: skip
    """Returns the features that are active on the concept's texts and write, or unwrite, its tokens.

    Args:
        model: the original model.
        autoencoders: autoencoders of MLP outputs by layer.
        forget: texts about the concept.
        retain: other texts.
        count: largest number of features per layer.
        max_frequency: largest share of other texts' tokens that activate a feature.
        top_k: number of tokens at either end of a feature's projection on the vocabulary that count.
        min_tokens: number of the concept's tokens that an end must hold.
        signed: whether s_f is 1 for features that make the concept's tokens less likely; else it is -1 for all.
    """
    own, other = (activities(model, batches, autoencoders) for batches in (forget, retain))
    tokens = concept_tokens(forget, retain)
    layers = []
    for layer, item in autoencoders.items():
        ranked = rank_features(own[layer], other[layer], max_frequency)
        signs = vocabulary_signs(model, item.decoder[ranked], tokens, top_k, min_tokens) if ranked else torch.zeros(0)
        places = signs.nonzero()[:, 0].tolist()[:count]
        chosen = [ranked[place] for place in places]
        neuron_signs = _neuron_signs(model, layer, forget, tokens)
        suppressed = -signs[places].float() if signed else -torch.ones(len(places))
        layers.append(LayerFeatures(item, chosen, suppressed, neuron_signs))
    return layers


def _neuron_signs(model: CausalLM, layer: int, texts: TextBatches, tokens: Sequence[int]) -> Tensor:
    """Returns the sign of each neuron's activation at the concept's tokens."""
    batch = model.pad(texts.rows[:SIGN_TEXTS])
    places = torch.isin(batch.ids, torch.tensor(list(tokens), device=batch.ids.device))
    return majority_signs(model.neuron_activations(batch, [layer])[layer][places].float()).cpu()


def suppression_edits(
    model: CausalLM, layers: Sequence[LayerFeatures], strength: float, threshold: float
) -> tuple[list[Edit], dict[str, TensorBlob]]:
    """Returns the edits of all layers' output matrices, and their tensors.

    Args:
        model: the original model.
        layers: the features to suppress.
        strength: mu.
        threshold: tau.
    """
    edits: list[Edit] = []
    tensors: dict[str, TensorBlob] = {}
    for layer in layers:
        item = layer.autoencoder
        coefficients = suppression_coefficients(model.neuron_outputs(item.layer).float(), layer, strength, threshold)
        edit, blobs = neuron_edit(model, item.layer, coefficients, item.decoder[layer.features])
        edits, tensors = [*edits, edit], tensors | blobs
    return edits, tensors


@torch.no_grad()
def suppression_coefficients(rows: Tensor, layer: LayerFeatures, strength: float, threshold: float) -> Tensor:
    """Returns what the edit adds to each neuron's output vector, in rows of the decoder, ``(d_mlp, r)``.

    As decoding is linear, replacing h_f and adding the error back adds (s_f mu A g_j - scale h_f) d_f to w_j.
    """
    item = layer.autoencoder
    weights = rows @ item.encoder[:, layer.features]
    largest = weights.abs().amax(0)
    selected = weights.abs() > threshold * largest
    _, scale = item.normalized(rows)
    present = scale * item.encode(rows)[:, layer.features]
    wanted = layer.signs.to(rows) * strength * largest.max() * layer.neuron_signs.to(rows)[:, None]
    return torch.where(selected, wanted - present, torch.zeros(()).to(rows))
