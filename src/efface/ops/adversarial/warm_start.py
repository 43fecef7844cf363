"""Searches that go on: what was found in a sentence is where its next search starts, now and then anew.

Adversarial training needs searches that are deep, and pays for every step of each. While the student moves a little at a time, what got
through it a few steps ago nearly does so still: going on from there makes a search of J steps as deep as one of several times as many.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from efface.models.soft_prompt import SoftTokens
from efface.ops.text.concept_tokens import ConceptTokens
from efface.ops.text.similarity import Similarity
from efface.ops.training.student import Student

from .embedding_attack import EmbeddingAttack, initial_embeddings, inside_out


class WarmStartBuffer:
    """What searches have found in each of some sentences, embeddings ``(P, L, D)``; it goes into checkpoints.

    Args:
        search: how a search begins.
        frames: the sentences, P of them.
        table: the token embeddings, ``(V, D)``.
        anew: the share of searches that begin anew; a sentence's first one always does.
    """

    def __init__(self, search: EmbeddingAttack, frames: ConceptTokens, table: Tensor, anew: float) -> None:
        self.search, self.frames, self.table, self.anew = search, frames, table.float(), anew
        self._found = self.table[frames.tokens.ids].clone()
        self._seen = torch.zeros(len(frames), dtype=torch.bool)

    def start(self, prompt: Tensor, generator: torch.Generator) -> Tensor:
        """Where the searches in these sentences start, ``(B, L, D)``."""
        fresh = initial_embeddings(self.search, self.frames[prompt], self.table, generator)
        if self.anew >= 1:
            return fresh
        again = (torch.rand(len(prompt), generator=generator) < self.anew) | ~self._seen[prompt.cpu()]
        return torch.where(again.to(fresh.device)[:, None, None], fresh, self._found[prompt])

    def attack(
        self, prompt: Tensor, alone: ConceptTokens, student: Student, similarity: Similarity, generator: torch.Generator
    ) -> tuple[SoftTokens, Tensor]:  # fmt: skip
        """Searches in these sentences, against the student as it is now, and keeps what is found.

        Args:
            prompt: which sentences, ``(B,)``.
            alone: the concept's word alone, for each of all sentences.
            student: E beside E*.
            similarity: s of the search.
            generator: draws where a search begins.

        Returns:
            The embeddings found and what the objective reached, ``(B,)``, as from `inside_out`.
        """
        found, reached = inside_out(
            self.search, self.frames[prompt], alone[prompt], erased=student.frozen_encoder(), original=student.model.encode,
            table=self.table, similarity=similarity, start=self.start(prompt, generator),
        )  # fmt: skip
        self.store(prompt, found.embeddings)
        return found, reached

    def store(self, prompt: Tensor, found: Tensor) -> None:
        """Remembers what was found, ``(B, at most L, D)``."""
        self._found[prompt, : found.shape[1]], self._seen[prompt.cpu()] = found, True

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        return {"found": self._found, "seen": self._seen}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` returned."""
        self._found, self._seen = state["found"].to(self._found), state["seen"].clone()
