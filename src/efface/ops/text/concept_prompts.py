"""Prompts in which a concept is erased: their tokens, trajectories and target predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import fill_templates
from efface.core.errors import EffaceError, UnknownNameError
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning, Tokens
from efface.models.soft_prompt import SoftTokens
from efface.ops.targets import negative_guidance
from efface.ops.training.chunked_loss import prediction_error
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig
from efface.ops.training.trajectory_pool import TrajectoryBatch, TrajectoryPool

from .concept_tokens import ConceptTokens, locate_concept
from .templates import remove_concept

TARGETS = ("neg_concept", "neg_prompt", "neg_keep_context", "concept_free")


@dataclass(frozen=True)
class ConceptPrompts:
    """Prompts that name one concept.

    Attributes:
        prompts: the P prompts.
        prompt_tokens: their tokens, ``(P, L)``.
        concept_only: tokens of each prompt's concept phrase alone.
        concept_cond: the original's conditioning of the phrase that is erased from each prompt.
        context_cond: the original's conditioning of the prompts without the concept.
        context_tokens: tokens of the prompts without the concept.
        pool: trajectories of the prompts.
    """

    prompts: tuple[str, ...]
    prompt_tokens: ConceptTokens
    concept_only: ConceptTokens
    concept_cond: Conditioning
    context_cond: Conditioning
    context_tokens: Tokens
    pool: TrajectoryPool
    _concept_free: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    @torch.no_grad()
    def from_templates(
        cls,
        model: EditableModel,
        phrases: Sequence[str],
        templates: Sequence[str],
        trajectories: TrajectoryConfig,
        seed: int,
        *,
        erased_phrase: str | None = None,
    ) -> ConceptPrompts:
        """Fills every template with every phrase.

        Args:
            model: the original model.
            phrases: the concept's name and synonyms.
            templates: texts with a ``{}`` each.
            trajectories: settings of the trajectory pool.
            seed: seed of the trajectory pool.
            erased_phrase: phrase of every prompt's `concept_cond`; by default the prompt's own phrase.

        Raises:
            EffaceError: no template, or a phrase that the context length cuts off.
        """
        rows = fill_and_remove(phrases, templates)
        prompts = tuple(rows)
        prompt_phrases, contexts = zip(*rows.values(), strict=True)
        context_tokens = model.tokenize(contexts)
        concept_cond = model.encode([erased_phrase or phrase for phrase in prompt_phrases])
        context_cond = model.encode(context_tokens)
        prompt_tokens = locate_concept(model, prompts, prompt_phrases)
        concept_only = locate_concept(model, prompt_phrases, prompt_phrases)
        pool = trajectories.build_pool(model, prompts, seed)
        return cls(prompts, prompt_tokens, concept_only, concept_cond, context_cond, context_tokens, pool)

    def sample(self, batch_size: int, generator: torch.Generator) -> TrajectoryBatch:
        """Samples training tuples of the prompts."""
        return self.pool.sample(batch_size, generator)

    def prediction_loss(
        self, student: Student, batch: TrajectoryBatch, soft: SoftTokens | None, target: str, eta: float
    ) -> Tensor:
        """Computes || e(z_t, t, E(p)) - target ||^2 over the prompts of a batch, a scalar (`target`)."""
        wanted = self.target(student.model, batch, soft, target, eta)
        cond = student.encode(self.prompt_tokens[batch.prompt_index].tokens, soft=soft)
        return prediction_error(student, batch.z, batch.t, cond, wanted)

    @torch.no_grad()
    def target(
        self, model: EditableModel, batch: TrajectoryBatch, soft: SoftTokens | Tensor | None, target: str, eta: float
    ) -> Tensor:
        """Computes the prediction that the student should make for prompts p of a concept c, ``(B, C, H, W)``.

            neg_concept       e_0 - eta (e(E*(c)) - e_0)
            neg_prompt        e_0 - eta (e(E*(p)) - e_0)
            neg_keep_context  e(E*(p)) - (eta + 1) (e(E*(c)) - e_0)
            concept_free      e(E*(p without c)) - eta (e(E*(c)) - e_0)

        E* is the original text encoder, e the denoiser and e_0 its prediction for the empty prompt.

        Args:
            model: the original model.
            batch: training tuples from the pool.
            soft: embeddings in place of some of the prompts' tokens; None: the prompts themselves, whose predictions
                are in the batch.
            target: one of `TARGETS`.
            eta: strength of the negative guidance.
        """
        e_0 = batch.unconditional
        if target == "concept_free":
            e_context = self._predict_concept_free(model, batch)
            if not eta:
                return e_context
            return negative_guidance(e_context, self._predict_concept(model, batch), e_0, eta)
        e_p = batch.conditional
        if soft is not None and target != "neg_concept":
            cond = model.encode(self.prompt_tokens[batch.prompt_index].tokens, soft=soft)
            e_p = model.predict(batch.z, batch.t, cond).value
        if target == "neg_prompt":
            return negative_guidance(e_0, e_p, e_0, eta)
        e_c = self._predict_concept(model, batch)
        if target == "neg_keep_context":
            return negative_guidance(e_p, e_c, e_0, eta + 1)
        return negative_guidance(e_0, e_c, e_0, eta)

    def _predict_concept(self, model: EditableModel, batch: TrajectoryBatch) -> Tensor:
        """Computes the original's predictions for the erased phrase."""
        return model.predict(batch.z, batch.t, self.concept_cond[batch.prompt_index]).value

    def _predict_concept_free(self, model: EditableModel, batch: TrajectoryBatch) -> Tensor:
        """Returns the original's predictions for the prompts without the concept.

        The first use of a trajectory computes the predictions of all its steps and caches them.
        """
        for trajectory in {*batch.trajectory_index.tolist()} - {*self._concept_free}:
            steps = self.pool.full_trajectory(trajectory)
            cond = self.context_cond[steps.prompt_index]
            chunks = []
            for start in range(0, len(steps.t), self.pool.batch_size):
                rows = slice(start, start + self.pool.batch_size)
                predicted = model.predict(steps.z[rows], steps.t[rows], cond[rows]).value
                chunks.append(predicted.to(self.pool.storage_device))
            self._concept_free[trajectory] = torch.cat(chunks)
        indices = zip(batch.trajectory_index.tolist(), batch.step_index.tolist(), strict=True)
        return torch.stack([self._concept_free[trajectory][step] for trajectory, step in indices]).to(batch.z.device)


def check_target(target: str) -> None:
    """Raises `UnknownNameError` unless ``target`` is one of `TARGETS`."""
    if target not in TARGETS:
        raise UnknownNameError("target", target, TARGETS)


def fill_and_remove(phrases: Sequence[str], templates: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Fills every template with every phrase: from prompt to its phrase and the prompt without the concept.

    Raises:
        EffaceError: no prompt.
    """
    rows = {
        fill_templates([template], [phrase])[0]: (phrase, remove_concept(template))
        for phrase in phrases
        for template in templates
    }
    if not rows:
        raise EffaceError("there is no prompt to erase the concept in: give templates with {} and a context")
    return rows
