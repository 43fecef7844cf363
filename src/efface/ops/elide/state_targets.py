"""Prompts that name a concept, and the states a text encoder should give them once the concept is erased.

The target T(p) of a prompt p is the original encoder E* without the concept, aligned to p's positions
(`concept_free_states`). With |.|_M the metric in which the denoiser reads states, the state loss

    L(p) = |E(p) - T(p)|_M^2 / |E*(p) - T(p)|_M^2,        T(p) = align(E*(p without c), p)

is 1 before training. FLUX and SD3 read several parts, T5's states and CLIP's pooled state among them: L is the mean of
the parts' losses (`ConditioningDistance`). At 0 the frozen denoiser generates the image of the prompt without the
concept. The loss needs no image, no noise and no denoiser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from efface.models.conditioning import Conditioning
from efface.models.editable import EditableModel
from efface.models.soft_prompt import SoftTokens
from efface.ops.text.concept_prompts import fill_and_remove
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.training.student import Student

from .concept_free_states import concept_free_states
from .conditioning_distance import ConditioningDistance
from .vocabulary import ENCODE_BATCH


class StateTargets:
    """Templates filled with the phrases to erase, with their target states.

    Args:
        model: the original model.
        phrases: the phrases to erase, each with the templates it is erased in.
        distance: measures distances in the denoiser's metric.

    Attributes:
        prompts: the P filled templates.
        prompt_tokens: their tokens, with the positions of their phrase.
        concept_only: tokens of each prompt's phrase alone.
        targets: target states ``(P, L, D)`` and pooled states ``(P, D')``.
        scales: for each part, the squared distance of the original's from the target, ``(P,)``.

    Raises:
        EffaceError: no template, or a phrase that the context length cuts off.
    """

    @torch.no_grad()
    def __init__(
        self, model: EditableModel, phrases: Mapping[str, Sequence[str]], distance: ConditioningDistance
    ) -> None:
        rows: dict[str, tuple[str, str]] = {}
        for phrase, templates in phrases.items():
            rows |= fill_and_remove([phrase], templates)
        self.prompts = tuple(rows)
        self.distance = distance
        prompt_phrases, contexts = zip(*rows.values(), strict=True)
        self.prompt_tokens = locate_concept(model, self.prompts, prompt_phrases)
        self.concept_only = locate_concept(model, prompt_phrases, prompt_phrases)
        original, context = encode_in_batches(model, self.prompts), encode_in_batches(model, contexts)
        states = concept_free_states(
            model, self.prompts, prompt_phrases, original.states, model.tokenize(contexts), context.states
        )
        self.targets = Conditioning(states, context.pooled)
        self.scales = [scale.clamp(min=1e-12) for scale in distance(original, self.targets)]

    def __len__(self) -> int:
        return len(self.prompts)

    def losses(self, student: Student, rows: Tensor, soft: SoftTokens | None = None) -> Tensor:
        """Computes L of some prompts ``(B,)``, unchanged or with an attack's embeddings in them."""
        distances = self.distance(student.encode(self.prompt_tokens[rows].tokens, soft=soft), self.targets[rows])
        return torch.stack([part / scale[rows] for part, scale in zip(distances, self.scales, strict=True)]).mean(0)

    @torch.no_grad()
    def all_losses(self, student: Student) -> Tensor:
        """Computes L of every prompt ``(P,)`` without gradients."""
        return torch.cat([self.losses(student, rows) for rows in torch.arange(len(self)).split(ENCODE_BATCH)])


def encode_in_batches(model: EditableModel, prompts: Sequence[str]) -> Conditioning:
    """Encodes P prompts with the original, `ENCODE_BATCH` at a time."""
    batches = [prompts[i : i + ENCODE_BATCH] for i in range(0, len(prompts), ENCODE_BATCH)]
    return Conditioning.cat([model.encode(batch) for batch in batches])
