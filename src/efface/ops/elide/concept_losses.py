"""The losses of one concept in SAGE's cycle: attack, erasure of the found prompts, and retention of pseudo-words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.models.soft_prompt import SoftTokens
from efface.ops.adversarial.warm_start import WarmStartBuffer
from efface.ops.text.concept_prompts import ConceptPrompts
from efface.ops.text.similarity import Similarity
from efface.ops.training.run import Run
from efface.ops.training.student import Student
from efface.ops.training.trajectory_pool import TrajectoryBatch

from .pseudo_words import PseudoWords
from .state_loss import ErasureLoss


@dataclass(frozen=True)
class BatchSizes:
    """Prompts per step: attacked ones, unchanged ones, those with domain words, those with pseudo-words."""

    attacked: int
    clean: int
    domain: int
    pseudo: int


@dataclass(frozen=True)
class ConceptLosses:
    """Computes a concept's losses of one step.

    Attributes:
        student: E with its original E*.
        run: gives the random generators.
        prompts: prompts with the concept, and behind them those with its domain words.
        attacks: attacks on these prompts, warm-started.
        similarity: similarity of the attacks' objective.
        erasure_loss: gives L_e and L_s.
        pseudo_words: words that do not exist, around the concept's own token.
        pseudo_loss: holds prompts with pseudo-words: `PseudoWords.prediction_loss` or `PseudoWords.state_loss`.
        pseudo_weight: weight of that loss; 0 leaves it out.
        synonym_min_cosine: least cosine of pseudo-words that are erased as synonyms; 1 erases none.
        graph_weight: weight of the relation graph for this kind of concept.
        warmup_steps: first steps without attack.
        sizes: prompts per step.
    """

    student: Student
    run: Run
    prompts: ConceptPrompts
    attacks: WarmStartBuffer
    similarity: Similarity
    erasure_loss: ErasureLoss
    pseudo_words: PseudoWords
    pseudo_loss: Callable[[ConceptPrompts, int, torch.Generator], Tensor]
    pseudo_weight: float
    synonym_min_cosine: float
    graph_weight: float
    warmup_steps: int
    sizes: BatchSizes

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Computes L_e ("erase"), L_s ("state") and the weighted L_m ("pseudo"), and the attacks' mean objective."""
        losses: list[tuple[Tensor, Tensor]] = []
        reached: dict[str, Tensor] = {}
        soft = None
        batch = self.prompts.sample(self.sizes.attacked, self.run.generator("erase"))
        if step >= self.warmup_steps:
            generator = self.run.generator("scatter")
            soft, objective = self.attacks.attack(
                batch.prompt_index, self.prompts.concept_only, self.student, self.similarity, generator
            )
            reached["attack"] = objective.mean()
            if self.sizes.clean:
                clean = self.prompts.sample(self.sizes.clean, self.run.generator("plain"))
                losses.append(self.erasure_loss(self.prompts, clean, self._synonyms(clean)))
        if self.prompts.n_domain:
            generator = self.run.generator("words")
            domain = self.prompts.sample(self.sizes.domain or self.sizes.clean, generator, from_domain=True)
            losses.append(self.erasure_loss(self.prompts, domain))
        losses.append(self.erasure_loss(self.prompts, batch, soft))
        erase, state = (torch.stack(part).sum() for part in zip(*losses, strict=True))
        pseudo = torch.zeros_like(erase)
        if self.pseudo_weight:
            generator = self.run.generator("made-up")
            pseudo = self.pseudo_weight * self.pseudo_loss(self.prompts, self.sizes.pseudo, generator)
        return {"erase": erase, "state": state, "pseudo": pseudo, **reached}

    def _synonyms(self, batch: TrajectoryBatch) -> SoftTokens | None:
        tokens = self.prompts.prompt_tokens[batch.prompt_index]
        generator = self.run.generator("kin")  # a fixed label: another one changes the random numbers
        return self.pseudo_words.synonym_embeddings(tokens, self.synonym_min_cosine, generator)
