"""Features of an autoencoder that belong to a concept: active on its texts, and hardly ever on others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.models.autoencoder import MLP_OUT, Autoencoder
from efface.models.causal_lm import CausalLM

from .text_batches import TextBatches

BATCH = 64
MIN_RATIO = 8.0
"""A token belongs to the concept if its share among the concept's texts is this many times that among others."""


@dataclass(frozen=True)
class Activity:
    """How active the features of an autoencoder are on texts.

    Attributes:
        mean: mean activation per token, ``(F,)``.
        frequency: share of tokens on which the feature is active, ``(F,)``.
    """

    mean: Tensor
    frequency: Tensor


@torch.no_grad()
def activities(model: CausalLM, batches: TextBatches, autoencoders: Mapping[int, Autoencoder]) -> dict[int, Activity]:
    """Returns the activity of all features on texts, by layer."""
    sums = {layer: torch.zeros(item.num_features) for layer, item in autoencoders.items()}
    counts = {layer: torch.zeros(item.num_features) for layer, item in autoencoders.items()}
    total = 0
    for start in range(0, len(batches.rows), BATCH):
        tokens = model.pad(batches.rows[start : start + BATCH])
        outputs, behind = model.layer_states(tokens, autoencoders.keys())
        places = tokens.mask.bool()
        total += int(places.sum())
        for layer, item in autoencoders.items():
            acts = item.encode((outputs if item.site == MLP_OUT else behind)[layer][places]).cpu()
            sums[layer] += acts.sum(0)
            counts[layer] += (acts > 0).sum(0)
    return {layer: Activity(sums[layer] / total, counts[layer] / total) for layer in autoencoders}


def rank_features(forget: Activity, retain: Activity, max_frequency: float) -> list[int]:
    """Returns the features that are rare on texts to keep, the most active on the concept's texts first."""
    scores = torch.where(retain.frequency <= max_frequency, forget.mean - retain.mean, torch.zeros(()))
    order = scores.argsort(descending=True).tolist()
    return [index for index in order if scores[index] > 0]


def concept_tokens(forget: TextBatches, retain: TextBatches, limit: int = 64) -> list[int]:
    """Returns the tokens that the concept's texts hold far more often than other texts, the most frequent first."""
    own = Counter(token for row in forget.rows for token in row)
    other = Counter(token for row in retain.rows for token in row)
    own_total, other_total = sum(own.values()), sum(other.values())

    def ratio(token: int) -> float:
        return (own[token] / own_total) / ((other[token] + 0.5) / other_total)

    return [token for token, _ in own.most_common() if ratio(token) >= MIN_RATIO][:limit]


@torch.no_grad()
def vocabulary_signs(model: CausalLM, directions: Tensor, tokens: list[int], top_k: int, least: int) -> Tensor:
    """Returns how directions act on a set of tokens, by their projection on the vocabulary.

    Args:
        model: the language model.
        directions: directions of the residual stream, ``(F, D)``.
        tokens: the set.
        top_k: number of tokens at either end of the projection that count.
        least: number of tokens of the set that an end must hold.

    Returns:
        For each direction 1 if the set is among the tokens it makes likelier, -1 if less likely, else 0; ``(F,)``.
    """
    unembedding = model.module.get_output_embeddings().weight.float()
    projected = directions.to(unembedding) @ unembedding.T
    inside = torch.zeros(projected.shape[1], dtype=torch.bool, device=projected.device)
    inside[tokens] = True
    top, bottom = (inside[projected.topk(top_k, largest=largest).indices].sum(1) for largest in (True, False))
    signs = (top >= least).int() - (bottom >= least).int()
    return torch.where((top >= least) & (bottom >= least), (top - bottom).sign().int(), signs).cpu()
