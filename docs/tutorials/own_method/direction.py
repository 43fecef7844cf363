"""Direction removal: the cross-attention no longer reads the directions that only the concept's states have.

Let K be the states of all tokens of prompts that name the concept, and R those of the retain prompts. The main axes of
R, B, stay. The main axes V of what is left of K, K (I - B^T B), are removed from every cross-attention matrix W:

    W' = W (I - strength V^T V)

so that W' r = W r for every state r in the span of B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard

CARD = MethodCard(
    name="direction",
    title="Direction removal",
    paper="an example of a method of one's own",
    arxiv="",
    families=("sd1", "sd2", "sdxl"),
    trains="cross-attention keys and values",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Removes the concept's direction from what the cross-attention reads.",
)


@dataclass(frozen=True)
class Config:
    """Settings of direction removal."""

    strength: float = field(default=1.0, metadata={"help": "Share of the directions to remove.", "range": "0 to 1"})
    rank: int = field(default=4, metadata={"help": "Number of directions per concept.", "range": "1 to 16"})
    keep: float = field(
        default=0.9, metadata={"help": "Share of the retained states' square norm that must not change."}
    )


PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def direction(model: Any, concepts: Sequence[Concept], config: Config, run: Any) -> Erasure:
    """Removes the directions of all concepts."""
    retained = [prompt for concept in concepts for prompt in concept.retain_prompts]
    kept = main_axes(token_states(model, [*retained, ""]), config.keep)
    directions = []
    for concept in concepts:
        states = token_states(model, concept.render_prompts(concept.words))
        states = states - states @ kept.T @ kept
        directions.append(torch.linalg.svd(states, full_matrices=False)[2][: config.rank])
    axes = torch.linalg.qr(torch.cat(directions).T)[0].T
    group, tensors = model.parameter_group("cross_kv"), {}
    for name, weight in group.parameters.items():
        tensors[f"{name}.down"] = axes
        tensors[f"{name}.up"] = -config.strength * weight.detach().float() @ axes.T
    edit = Edit(group.components[0], "low_rank", {role: role for role in tensors})
    return run.erasure([edit], tensors)


def token_states(model: Any, prompts: Sequence[str]) -> Tensor:
    """Returns the states of all tokens of the prompts up to the end of text, ``(N, D)``."""
    with torch.no_grad():
        states = model.encode(prompts).states.float()
    return states[model.tokenize(prompts).mask.bool()]


def main_axes(states: Tensor, share: float) -> Tensor:
    """Returns the main axes that hold the given share of the states' square norm, ``(k, D)``."""
    _, singular_values, axes = torch.linalg.svd(states, full_matrices=False)
    shares = singular_values.square().cumsum(0) / singular_values.square().sum()
    return axes[: int((shares < share).sum()) + 1]
