"""Encoded prompts with a mark at the hidden states of a phrase in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning

from .concept_tokens import mentioned_states


@dataclass(frozen=True)
class PhraseStates:
    """Conditioning of prompts, and which of their hidden states belong to a phrase.

    Attributes:
        cond: conditioning of P prompts.
        mask: bool ``(P, L)``, true at the states of the phrase's tokens; all false in a prompt without the phrase.
    """

    cond: Conditioning
    mask: Tensor

    @classmethod
    @torch.no_grad()
    def encode(cls, model: EditableModel, prompts: Sequence[str], phrases: Sequence[str]) -> PhraseStates:
        """Encodes P prompts with the original model and marks the phrase of each.

        Args:
            model: the original model.
            prompts: the prompts.
            phrases: the phrase of each prompt; the prompt itself marks all of its tokens.
        """
        tokens = model.tokenize(prompts)
        cond = model.encode(tokens)
        return cls(cond, mentioned_states(model, tokens, phrases, cond.states.shape[1]))

    @classmethod
    def cat(cls, batches: Sequence[PhraseStates]) -> PhraseStates:
        """Concatenates batches along the batch axis."""
        return cls(Conditioning.cat([b.cond for b in batches]), torch.cat([b.mask for b in batches]))

    def __getitem__(self, index: Tensor) -> PhraseStates:
        return PhraseStates(self.cond[index], self.mask[index])
