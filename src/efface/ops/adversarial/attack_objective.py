"""Objectives of the embedding attack; `efface.ops.adversarial.embedding_attack` lists their formulae."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from efface.models.protocol import Conditioning, Tokens
from efface.models.soft_prompt import SoftTokens
from efface.ops.text.concept_tokens import ConceptTokens
from efface.ops.text.similarity import Similarity

OBJECTIVES = ("hide_concept", "stay_unchanged", "recover_concept", "diverge", "concept_only")


class Encode(Protocol):
    """A text encoder: `efface.models.protocol.TextToImage.encode`, of the original or of a student."""

    def __call__(self, prompts: Tokens, *, soft: SoftTokens | None = None) -> Conditioning:
        """Encodes tokens."""
        ...


@dataclass(frozen=True)
class AttackTarget:
    """The text encoder under attack and its original.

    Attributes:
        erased: the encoder under attack, E.
        original: the original encoder, E*.
        similarity: the similarity s that compares their states.
        table: token embeddings of the vocabulary, ``(V, D)``.
    """

    erased: Encode
    original: Encode
    similarity: Similarity
    table: Tensor


class AttackObjective:
    """Computes the objective of B prompts p with embeddings in place of some of their tokens.

    Args:
        objective: one of `OBJECTIVES`.
        concept_weight: weight of the similarity to the concept under the original encoder.
        target: the encoders and the similarity.
        prompt_tokens: the prompts.
        concept_only: the concept phrase alone, for each prompt or for all.
    """

    def __init__(
        self,
        objective: str,
        concept_weight: float,
        target: AttackTarget,
        prompt_tokens: ConceptTokens,
        concept_only: ConceptTokens,
    ) -> None:
        self._objective = objective
        self._concept_weight = concept_weight
        self._target = target
        self._prompt_tokens = prompt_tokens
        self._needs_original = concept_weight > 0 or objective in ("stay_unchanged", "diverge", "concept_only")
        with torch.no_grad():
            concept_states = target.similarity.concept_states
            self._original_concept = concept_states(target.original, prompt_tokens, concept_only)
            self._erased_concept = concept_states(target.erased, prompt_tokens, concept_only)

    def __call__(self, soft: SoftTokens) -> Tensor:
        """Computes the objective, ``(B,)``."""
        s = self._target.similarity
        original = self._states(self._target.original, soft) if self._needs_original else None
        if self._objective == "concept_only":
            assert original is not None
            return (self._concept_weight or 1.0) * s(original, self._original_concept)
        erased = self._states(self._target.erased, soft)
        if original is None or not self._concept_weight:
            return self._term(original, erased)
        return self._concept_weight * s(original, self._original_concept) + self._term(original, erased)

    def _term(self, original: Tensor | None, erased: Tensor) -> Tensor:
        s = self._target.similarity
        if self._objective == "hide_concept":
            return -s(erased, self._erased_concept)
        if self._objective == "recover_concept":
            return s(erased, self._original_concept)
        assert original is not None
        return s(erased, original) if self._objective == "stay_unchanged" else -s(erased, original)

    def _states(self, encode: Encode, soft: SoftTokens) -> Tensor:
        states = encode(self._prompt_tokens.tokens, soft=soft).states
        return self._target.similarity.compared_states(states, self._prompt_tokens)
