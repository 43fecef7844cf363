"""Words that do not exist: what a text encoder makes of sentences with them must stay, so that an erasure is about its concept alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.models.soft import Soft

from .framed import Framed
from .retention import Retained
from .similarity import Similarity
from .soft_prompts import embedding_table
from .student import Student


class MadeUpWords:
    """The concept's sentences with a made-up word in its place, held to what the original makes of them.

        v = l x + (1 - l) y,  x and y words of the retain set, l ~ U(0, 1)         L = mean( 1 - s(E(p with v), E*(p with v)) )

    where s is `Similarity` of the whole sentence: the change that the denoiser sees, as a share of what the sentence says at all. A word
    between two that must stay lies where words for things lie, which hardly any random point does, and needs no other word to be named:
    nothing is given away of what an erasure will be measured on.

    Args:
        student: E, beside E*.
        words: ids of the retain set's words, ``(W,)``.
    """

    def __init__(self, student: Student, words: Tensor) -> None:
        table = embedding_table(student.model).float()
        self.student, self._words = student, table[words.to(table.device)]
        self._similarity = Similarity(student.model, "sentence")

    @classmethod
    def between(cls, student: Student, retained: Retained, sentences: Sequence[Framed]) -> MadeUpWords:
        """Between the retained prompts' words, without those that the concepts' sentences have, too.

        Raises:
            EffaceError: no such word.
        """
        common = {i for frames in sentences for i in frames.tokens.ids.flatten().tolist()}
        words = sorted({*retained.tokens.ids.flatten().tolist()} - common)
        if not words:
            raise EffaceError("made-up words lie between words of the retain prompts, and these have none of their own: give others")
        return cls(student, torch.tensor(words))

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Words that do not exist: embeddings ``(*shape, D)``."""
        x, y = (self._words[torch.randint(len(self._words), shape, generator=generator).to(self._words.device)] for _ in "xy")
        share = torch.rand(*shape, 1, generator=generator).to(x)
        return share * x + (1 - share) * y

    def __call__(self, frames: Framed, generator: torch.Generator) -> Tensor:
        """The loss over sentences ``(B, L)``: a scalar."""
        rows, length = frames.free.shape
        soft = Soft(self.draw((rows, length), generator), frames.own())
        with torch.no_grad():
            before = self._similarity.read(self.student.model.encode(frames.tokens, soft=soft).states)
        after = self._similarity.read(self.student.encode(frames.tokens, soft=soft).states)
        return (1 - self._similarity(after, before)).mean()
