"""Prompts in which fine-tuning erases concepts, their trajectories, and the target of ESD (arXiv 2303.07345)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from efface.core.concept import Concept, find_mention
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning
from efface.ops.targets import negative_guidance
from efface.ops.training.trajectory_config import TrajectoryConfig
from efface.ops.training.trajectory_pool import TrajectoryBatch, TrajectoryPool

from .templates import concept_templates, library_templates


@dataclass(frozen=True)
class ErasePrompts:
    """Prompts f that each name a concept.

    Attributes:
        model: the original model.
        prompts: the P prompts; several concepts' prompts follow each other.
        phrases: the phrase c of the concept that each prompt names.
        phrase_cond: the original's conditioning of the phrases.
        pool: trajectories of the prompts.
    """

    model: EditableModel
    prompts: tuple[str, ...]
    phrases: tuple[str, ...]
    phrase_cond: Conditioning
    pool: TrajectoryPool

    @classmethod
    def from_concepts(
        cls,
        model: EditableModel,
        concepts: Sequence[Concept],
        num_templates: int,
        trajectories: TrajectoryConfig,
        seed: int,
    ) -> ErasePrompts:
        """Collects the prompts of all concepts and samples their trajectories.

        Args:
            model: the original model.
            concepts: the concepts.
            num_templates: number of templates from the library, besides each concept's own prompts.
            trajectories: settings of the trajectory pool.
            seed: seed of the trajectory pool.
        """
        prompts, phrases = collect_erase_prompts(concepts, num_templates)
        pool = trajectories.build_pool(model, prompts, seed)
        with torch.no_grad():
            phrase_cond = model.encode(phrases)
        return cls(model, prompts, phrases, phrase_cond, pool)

    def negative_target(self, batch: TrajectoryBatch, eta: float, *, erase_from: bool) -> Tensor:
        """Computes the original's prediction guided away from the concept, ``(B, C, H, W)``.

            erase_from=False    e*_0 - eta (e*_f - e*_0)
            erase_from=True     e*_f - (eta + 1) (e*_c - e*_0), which keeps the rest of the prompt f

        Args:
            batch: training tuples from the pool.
            eta: strength of the negative guidance.
            erase_from: whether to start from the prediction for the prompt; needs one more prediction.
        """
        e_f, e_0 = batch.conditional, batch.unconditional
        if not erase_from:
            return negative_guidance(e_0, e_f, e_0, eta)
        return negative_guidance(e_f, self.predict_phrase(batch), e_0, eta + 1)

    @torch.no_grad()
    def predict_phrase(self, batch: TrajectoryBatch) -> Tensor:
        """Computes the original's predictions e*_c for the phrases of a batch, ``(B, C, H, W)``."""
        return self.model.predict(batch.z, batch.t, self.phrase_cond[batch.prompt_index]).value


def collect_erase_prompts(concepts: Sequence[Concept], num_templates: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the prompts f to erase from, and the phrase c of the concept that each names, by default the name."""
    phrases: dict[str, str] = {}
    for concept in concepts:
        for prompt in concept.prompts:
            phrases[prompt] = find_mention(prompt, concept.words) or concept.name
        for word in () if concept.prompts else concept.words:
            phrases |= dict.fromkeys(concept.render_prompts([word]), word)
        if not num_templates:
            continue
        for word in concept.words:
            named = replace(concept, name=word, synonyms=(), retain_prompts=())
            phrases |= dict.fromkeys(concept_templates(named, library_templates(concept), num_templates), word)
    return tuple(phrases), tuple(phrases.values())
