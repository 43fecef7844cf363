"""SAGE's self-erasure: what a student is to predict for a sentence, and what the sentence is to say.

The prediction alone does not ask for much: a student learns to shift a sentence's states by a few percent, in a direction that the
denoiser happens to answer with nothing to see; a search undoes that, and other words that come by the same direction are lost. So the
sentence is to say what it says without the concept, in the metric of the self-check (`efface.ops.text.similarity`, ``sentence``):

    L_s = mean |E(p) - T(p_0)|_M^2 / |E*(p_0) - T(p_0)|_M^2        p_0 the sentence as it stood, p with what was found in it

with T(p) the states of E*(p without c), laid on the places of p (`efface.ops.text.concept_prompts.lay`). It is 1 to begin with, needs no denoiser, no
image and no noise, and where it is 0, the frozen denoiser draws the sentence without the concept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from efface.models.soft_prompt import SoftTokens
from efface.ops.text.concept_prompts import ConceptPrompts
from efface.ops.text.similarity import Similarity
from efface.ops.training.chunked_loss import prediction_error
from efface.ops.training.student import Student
from efface.ops.training.trajectory_pool import TrajectoryBatch


class ErasureLoss:
    """The losses of sentences about a concept.

    Args:
        student: E beside E*.
        form: of the target (`Sentences.target`).
        eta: its strength.
        said: whether L_s is wanted; otherwise it is 0.
    """

    def __init__(self, student: Student, form: str, eta: float, *, said: bool) -> None:
        self.student, self.form, self.eta = student, form, eta
        self._similarity = Similarity(student.model, "kv_distance") if said else None

    def __call__(
        self, domain: ConceptPrompts, batch: TrajectoryBatch, soft: SoftTokens | None = None
    ) -> tuple[Tensor, Tensor]:
        """|| e(z_t, t, E(p)) - target ||^2 and L_s of sentences, as they are or with what was found in them: two scalars."""
        target = domain.target(self.student.model, batch, soft, self.form, self.eta)
        cond = self.student.encode(domain.frames[batch.prompt].tokens, soft=soft)
        error = prediction_error(self.student, batch.z, batch.t, cond, target)
        if self._similarity is None:
            return error, torch.zeros_like(error)
        apart = self._similarity.apart
        now, stood, wanted = (
            self._similarity.read(s) for s in (cond.states, batch.cond.states, domain.aligned_states[batch.prompt])
        )
        return error, (apart(now, wanted) / apart(stood, wanted).clamp(min=1e-12)).mean()
