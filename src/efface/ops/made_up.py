"""Words that do not exist: what the denoiser draws for sentences with them must stay, so that an erasure is about its concept alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from efface.models.soft import Soft

from .prediction import prediction_error
from .sentences import Sentences
from .soft_prompts import embedding_table
from .student import Student


class MadeUpWords:
    """The concept's sentences p with a made-up word v in its place, for which the student is to predict what the original does.

        L = || e(z_t, t, E(p with v)) - e(z_t, t, E*(p with v)) ||^2
        v = m + n ( a c + sqrt(1 - a^2) u ),     a ~ U(0, reach)

    m is the mean of the token embeddings, n the distance of a random one from it, c the direction of the concept's own token from it, and u
    a random direction at a right angle to c, spread as the vocabulary is. So v is like the concept's word up to a cosine of ``reach``, as
    the words of its neighbours are, where its synonyms lie nearer; and no other word needs to be named: nothing is given away of what an
    erasure will be measured on. What counts is what the denoiser makes of a sentence: a few percent of its states, in the direction
    that an erasure has learnt, are enough for it to draw nothing.

    Args:
        student: E, beside E*.
        reach: up to which cosine a made-up word is like the concept's.
    """

    def __init__(self, student: Student, reach: float) -> None:
        self.student, self.reach = student, reach
        table = embedding_table(student.model).float()
        self._table, self._mean = table, table.mean(0)
        self._lengths = (table - self._mean).norm(dim=-1)
        values, vectors = torch.linalg.eigh(torch.cov(table.double().T))
        self._root = (vectors * values.clamp(min=0).sqrt()).to(table)

    def draw(self, ids: Tensor, generator: torch.Generator) -> Tensor:
        """A word in place of each token ``(B, L)``: embeddings ``(B, L, D)``."""
        device = self._table.device
        noise = torch.randn(*ids.shape, len(self._mean), generator=generator).to(device) @ self._root.T
        likeness = self.reach * torch.rand(*ids.shape, 1, generator=generator).to(device)
        length = self._lengths[torch.randint(len(self._lengths), ids.shape, generator=generator).to(device)]
        own = normalize(self._table[ids] - self._mean, dim=-1)
        other = normalize(noise - (noise * own).sum(-1, keepdim=True) * own, dim=-1)
        return self._mean + length[..., None] * (likeness * own + (1 - likeness.square()).sqrt() * other)

    def __call__(self, domain: Sentences, size: int, generator: torch.Generator) -> Tensor:
        """The loss over so many of the concept's sentences, each at a state of its own trajectories: a scalar."""
        batch, model = domain.draw(size, generator), self.student.model
        frames = domain.frames[batch.prompt]
        soft = Soft(self.draw(frames.tokens.ids, generator), frames.own())
        with torch.no_grad():
            target = model.predict(batch.z, batch.t, model.encode(frames.tokens, soft=soft)).value
        return prediction_error(self.student, batch.z, batch.t, self.student.encode(frames.tokens, soft=soft), target)
