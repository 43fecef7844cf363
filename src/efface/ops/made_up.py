"""Words that do not exist: what a text encoder makes of sentences with them must stay, so that an erasure is about its concept alone."""

from __future__ import annotations

import torch
from torch import Tensor

from efface.models.soft import Soft

from .framed import Framed
from .similarity import Similarity
from .soft_prompts import embedding_table
from .student import Student


class MadeUpWords:
    """The concept's sentences with a made-up word in its place, held to what the original makes of them.

        v ~ N(mean, covariance of the token embeddings)          L = mean( 1 - s(E(p with v), E*(p with v)) )

    where s is `Similarity` of the whole sentence: the change that the denoiser sees, as a share of what the sentence says at all. No word
    is named, so that nothing is given away of what an erasure will be measured on.

    Args:
        student: E, beside E*.
    """

    def __init__(self, student: Student) -> None:
        table = embedding_table(student.model).float()
        values, vectors = torch.linalg.eigh(torch.cov(table.T))
        self.student, self._mean = student, table.mean(0)
        self._root = vectors * values.clamp(min=0).sqrt()
        self._similarity = Similarity(student.model, "sentence")

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Words that do not exist: embeddings ``(*shape, D)``."""
        normal = torch.randn(*shape, len(self._mean), generator=generator).to(self._mean)
        return self._mean + normal @ self._root.T

    def __call__(self, frames: Framed, generator: torch.Generator) -> Tensor:
        """The loss over sentences ``(B, L)``: a scalar."""
        rows, length = frames.free.shape
        soft = Soft(self.draw((rows, length), generator), frames.own())
        with torch.no_grad():
            before = self._similarity.read(self.student.model.encode(frames.tokens, soft=soft).states, frames)
        after = self._similarity.read(self.student.encode(frames.tokens, soft=soft).states, frames)
        return (1 - self._similarity(after, before)).mean()
