"""SAGE's self-erasure: what a student is to predict for a sentence, and how far it is to move from what the sentence was.

The prediction alone does not ask for much: a student learns to shift a sentence's states by a few percent, in a direction that the
denoiser happens to answer with nothing to see, and a search undoes that. So the self-check's own measure s (`efface.ops.similarity`,
``sentence``) is erased, too, down to where a sentence lies that does not name the concept:

    L_a = mean max( 0, s(E(p), E*(p_0)) - s(E*(p_0 without c), E*(p_0)) )        p_0 the sentence as it stood, p with what was found in it
"""

from __future__ import annotations

import torch
from torch import Tensor

from efface.models.soft import Soft

from .pool import Batch
from .prediction import prediction_error
from .sentences import Sentences
from .similarity import Similarity
from .student import Student


class SelfErasure:
    """The losses of sentences about a concept.

    Args:
        student: E beside E*.
        form: of the target (`Sentences.target`).
        eta: its strength.
        away: whether L_a is wanted; otherwise it is 0.
    """

    def __init__(self, student: Student, form: str, eta: float, *, away: bool) -> None:
        self.student, self.form, self.eta = student, form, eta
        self._similarity = Similarity(student.model, "sentence") if away else None

    def __call__(self, domain: Sentences, batch: Batch, soft: Soft | None = None) -> tuple[Tensor, Tensor]:
        """|| e(z_t, t, E(p)) - target ||^2 and L_a of sentences, as they are or with what was found in them: two scalars."""
        target = domain.target(self.student.model, batch, soft, self.form, self.eta)
        cond = self.student.encode(domain.frames[batch.prompt].tokens, soft=soft)
        error = prediction_error(self.student, batch.z, batch.t, cond, target)
        if self._similarity is None:
            return error, torch.zeros_like(error)
        now, stood, rest = (self._similarity.read(c.states) for c in (cond, batch.cond, domain.rest[batch.prompt]))
        return error, (self._similarity(now, stood) - self._similarity(rest, stood)).clamp(min=0).mean()
