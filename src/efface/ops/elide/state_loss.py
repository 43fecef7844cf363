"""Erasure losses of a student: the prediction error for prompts with the concept, and the state loss.

The prediction error alone is a weak objective. It falls as soon as the student shifts a prompt's states by a few
percent, in a direction to which the denoiser happens to respond with an image without the concept. An attack reverses
such a shift, and the shift also affects unrelated words whose states have a component in this direction. The state loss
therefore trains the states towards those of the prompt without the concept, in the metric of the denoiser's
cross-attention (`efface.ops.text.similarity`, ``kv_distance``):

    L_s = mean |E(p) - T(p_0)|_M^2 / |E*(p_0) - T(p_0)|_M^2

p_0 is the prompt, p the prompt with the attack's embeddings, E the student and E* the original text encoder. T(p_0)
are the states of E*(p_0 without c), aligned to the positions of p_0 (`efface.ops.text.state_alignment.align_states`).
Without an attack, L_s is 1 before training. It needs no denoiser, image or noise. At L_s = 0 the frozen denoiser
generates the image of the prompt without the concept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from efface.core.errors import UnknownNameError
from efface.models.soft_prompt import SoftTokens
from efface.ops.text.concept_prompts import TARGETS, ConceptPrompts
from efface.ops.text.similarity import Similarity
from efface.ops.training.chunked_loss import prediction_error
from efface.ops.training.student import Student
from efface.ops.training.trajectory_pool import TrajectoryBatch


class ErasureLoss:
    """Computes the erasure losses of prompts with a concept.

    Args:
        student: the student E with its original E*.
        target: target prediction, one of `efface.ops.text.concept_prompts.TARGETS`.
        eta: strength of the target's negative guidance.
        with_states: whether to compute the state loss L_s; otherwise it is 0.

    Raises:
        UnknownNameError: an unknown target.
    """

    def __init__(self, student: Student, target: str, eta: float, *, with_states: bool) -> None:
        if target not in TARGETS:
            raise UnknownNameError("target", target, TARGETS)
        self.student = student
        self.target = target
        self.eta = eta
        self._similarity = Similarity(student.model, "kv_distance") if with_states else None

    def __call__(
        self, prompts: ConceptPrompts, batch: TrajectoryBatch, soft: SoftTokens | None = None
    ) -> tuple[Tensor, Tensor]:
        """Computes || e(z_t, t, E(p)) - target ||^2 and L_s.

        Args:
            prompts: the concept's prompts.
            batch: training tuples of these prompts.
            soft: the attack's embeddings in place of some of the prompts' tokens; None: the prompts themselves.

        Returns:
            Two scalars.
        """
        target = prompts.target(self.student.model, batch, soft, self.target, self.eta)
        cond = self.student.encode(prompts.prompt_tokens[batch.prompt_index].tokens, soft=soft)
        error = prediction_error(self.student, batch.z, batch.t, cond, target)
        if self._similarity is None:
            return error, torch.zeros_like(error)
        states = self._similarity.compared_states(cond.states)
        original = self._similarity.compared_states(batch.cond.states)
        concept_free = self._similarity.compared_states(prompts.aligned_states[batch.prompt_index])
        distance = self._similarity.squared_distance(states, concept_free)
        original_distance = self._similarity.squared_distance(original, concept_free).clamp(min=1e-12)
        return error, (distance / original_distance).mean()
