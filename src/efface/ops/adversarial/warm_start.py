"""Warm start of embedding attacks: an attack on a prompt continues from the result of the prompt's previous attack.

Adversarial training needs attacks of many steps and pays for each step. The student changes little between two training
steps, so that a previous attack's embeddings are almost still successful. An attack of J steps that starts from them is
as strong as one of several times as many steps that starts from the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from efface.models.editable import EditableModel
from efface.models.soft_prompt import SoftTokens
from efface.ops.text.concept_tokens import ConceptTokens
from efface.ops.text.similarity import Similarity
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.training.student import Student

from .attack_objective import AttackTarget
from .embedding_attack import EmbeddingAttack, initial_embeddings, inside_out


class WarmStartBuffer:
    """The latest attack embeddings of each of P prompts, ``(P, L, D)``; checkpoints contain them.

    States are compared by the ``kv_distance`` of `Similarity`.

    Args:
        embedding_attack: settings of the attacks.
        prompt_tokens: the prompts.
        concept_only: the concept phrase alone, for each prompt.
        model: the original model.
        restart_prob: probability that an attack starts from the prompt itself; a prompt's first attack always does.
    """

    def __init__(
        self,
        embedding_attack: EmbeddingAttack,
        prompt_tokens: ConceptTokens,
        concept_only: ConceptTokens,
        model: EditableModel,
        restart_prob: float,
    ) -> None:
        self.embedding_attack = embedding_attack
        self.prompt_tokens = prompt_tokens
        self.concept_only = concept_only
        self.similarity = Similarity(model, "kv_distance")
        self.table = embedding_table(model).float()
        self.restart_prob = restart_prob
        self._embeddings = self.table[prompt_tokens.tokens.ids].clone()
        self._attacked = torch.zeros(len(prompt_tokens), dtype=torch.bool)

    def start_embeddings(self, prompt_index: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the embeddings from which attacks on some prompts start, ``(B, L, D)``.

        Args:
            prompt_index: indices of the prompts, ``(B,)``.
            generator: on the CPU.
        """
        initial = initial_embeddings(self.embedding_attack, self.prompt_tokens[prompt_index], self.table, generator)
        if self.restart_prob >= 1:
            return initial
        restart = torch.rand(len(prompt_index), generator=generator) < self.restart_prob
        restart = restart | ~self._attacked[prompt_index.cpu()]
        return torch.where(restart.to(initial.device)[:, None, None], initial, self._embeddings[prompt_index])

    def attack(self, prompt_index: Tensor, student: Student, generator: torch.Generator) -> tuple[SoftTokens, Tensor]:
        """Attacks the student's current text encoder with some of the prompts and stores the embeddings.

        Args:
            prompt_index: indices of the prompts, ``(B,)``.
            student: the student E with its original E*.
            generator: on the CPU.

        Returns:
            The embeddings and the objective that they reach, ``(B,)``, as from `inside_out`.
        """
        soft, objective = inside_out(
            self.embedding_attack,
            AttackTarget(student.frozen_encoder(), student.model.encode, self.similarity, self.table),
            self.prompt_tokens[prompt_index],
            self.concept_only[prompt_index],
            start_embeddings=self.start_embeddings(prompt_index, generator),
        )
        self.store(prompt_index, soft.embeddings)
        return soft, objective

    def store(self, prompt_index: Tensor, embeddings: Tensor) -> None:
        """Stores embeddings ``(B, L' <= L, D)`` of some of the prompts."""
        self._embeddings[prompt_index, : embeddings.shape[1]] = embeddings
        self._attacked[prompt_index.cpu()] = True

    def state(self) -> dict[str, Tensor]:
        """Returns the tensors that a checkpoint needs."""
        return {"embeddings": self._embeddings, "attacked": self._attacked}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores the tensors that `state` returned."""
        self._embeddings = state["embeddings"].to(self._embeddings)
        self._attacked = state["attacked"].clone()
