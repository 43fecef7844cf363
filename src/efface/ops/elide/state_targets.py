"""Prompts that name a concept, and the states a text encoder should give them once the concept is erased.

The target T(p) of a prompt p is the original encoder E* without the concept, aligned to p's positions (`align_states`).
With |.|_M the metric of the denoiser's cross-attention (`Similarity`, ``kv_distance``), the state loss

    L(p) = |E(p) - T(p)|_M^2 / |E*(p) - T(p)|_M^2,        T(p) = align(E*(p without c), p)

is 1 before training. At 0 the frozen denoiser generates the image of the prompt without the concept. The loss needs no
image, no noise and no denoiser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from efface.models.editable import EditableModel
from efface.models.soft_prompt import SoftTokens
from efface.ops.text.concept_prompts import fill_and_remove
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.similarity import Similarity
from efface.ops.text.state_alignment import align_states
from efface.ops.training.student import Student

from .vocabulary import ENCODE_BATCH


class StateTargets:
    """Templates filled with the phrases to erase, with their target states.

    Args:
        model: the original model.
        phrases: the phrases to erase, each with the templates it is erased in.
        similarity: measures distances in the denoiser's metric (kind ``kv_distance``).

    Attributes:
        prompts: the P filled templates.
        prompt_tokens: their tokens, with the positions of their phrase.
        concept_only: tokens of each prompt's phrase alone.
        targets: target states, ``(P, L, D)``.
        scale: squared distance of the original states from the targets, ``(P,)``.

    Raises:
        EffaceError: no template, or a phrase that the context length cuts off.
    """

    @torch.no_grad()
    def __init__(self, model: EditableModel, phrases: Mapping[str, Sequence[str]], similarity: Similarity) -> None:
        rows: dict[str, tuple[str, str]] = {}
        for phrase, templates in phrases.items():
            rows |= fill_and_remove([phrase], templates)
        self.prompts = tuple(rows)
        self.similarity = similarity
        prompt_phrases, contexts = zip(*rows.values(), strict=True)
        self.prompt_tokens = locate_concept(model, self.prompts, prompt_phrases)
        self.concept_only = locate_concept(model, prompt_phrases, prompt_phrases)
        original = encode_in_batches(model, self.prompts)
        context_states = encode_in_batches(model, contexts)
        self.targets = align_states(self.prompt_tokens, original, model.tokenize(contexts), context_states)
        self.scale = self._distance(original, self.targets).clamp(min=1e-12)

    def __len__(self) -> int:
        return len(self.prompts)

    def losses(self, student: Student, rows: Tensor, soft: SoftTokens | None = None) -> Tensor:
        """Computes L of some prompts ``(B,)``, unchanged or with an attack's embeddings in them."""
        states = student.encode(self.prompt_tokens[rows].tokens, soft=soft).states
        return self._distance(states, self.targets[rows]) / self.scale[rows]

    @torch.no_grad()
    def all_losses(self, student: Student) -> Tensor:
        """Computes L of every prompt ``(P,)`` without gradients."""
        return torch.cat([self.losses(student, rows) for rows in torch.arange(len(self)).split(ENCODE_BATCH)])

    def _distance(self, states: Tensor, targets: Tensor) -> Tensor:
        compared = self.similarity.compared_states
        return self.similarity.squared_distance(compared(states), compared(targets))


def encode_in_batches(model: EditableModel, prompts: Sequence[str]) -> Tensor:
    """Encodes prompts with the original, `ENCODE_BATCH` at a time: ``(P, L, D)``."""
    batches = [prompts[i : i + ENCODE_BATCH] for i in range(0, len(prompts), ENCODE_BATCH)]
    return torch.cat([model.encode(batch).states for batch in batches])
