"""Words that do not exist: what sentences with them say must stay, so that an erasure is about its concept alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from efface.models.protocol import Conditioning
from efface.models.soft_prompt import SoftTokens
from efface.ops.text.concept_prompts import ConceptPrompts
from efface.ops.text.concept_tokens import ConceptTokens
from efface.ops.text.similarity import Similarity
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.training.chunked_loss import prediction_error
from efface.ops.training.student import Student


class PseudoWords:
    """The concept's sentences p with a made-up word v in its place, held to what they were.

        v = m + n ( a c + sqrt(1 - a^2) u ),     a ~ U(0, reach)

        seen    L = || e(z_t, t, E(p with v)) - e(z_t, t, E*(p with v)) ||^2
        said    L = mean( 1 - s(E(p with v), E*(p with v)) ),     s of `Similarity`, ``sentence``

    m is the mean of the token embeddings, n the distance of a random one from it, c the direction of the concept's own token from it, and u
    a random direction at a right angle to c, spread as the vocabulary is. So v is like the concept's word up to a cosine of ``reach``, as
    the words of its neighbours are, where its synonyms lie nearer; and no other word needs to be named: nothing is given away of what an
    erasure will be measured on. What is seen is held sharply: a few percent of a sentence's states, in the direction that an erasure has
    learnt, are enough for the denoiser to draw nothing. What is said is held loosely, where words that nobody has named are to go, too.

    Args:
        student: E, beside E*.
        reach: up to which cosine a made-up word is like the concept's.
    """

    def __init__(self, student: Student, reach: float) -> None:
        self.student, self.reach = student, reach
        table = embedding_table(student.model).float()
        self._table, self._mean = table, table.mean(0)
        self._lengths = (table - self._mean).norm(dim=-1)
        self._padding = int(student.model.tokenize([""]).ids[0, -1])

    @cached_property
    def _similarity(self) -> Similarity:
        return Similarity(self.student.model, "kv_distance")

    @cached_property
    def _root(self) -> Tensor:
        """R with R R^T the covariance of the token embeddings; made when a word is first drawn, which many runs never do."""
        values, vectors = torch.linalg.eigh(torch.cov(self._table.double().T))
        root: Tensor = vectors * values.clamp(min=0).sqrt()
        return root.to(self._table)

    def draw(self, ids: Tensor, generator: torch.Generator, least: float, most: float) -> Tensor:
        """A word in place of each token ``(B, L)``, as like it as a cosine between these says: embeddings ``(B, L, D)``."""
        device = self._table.device
        noise = torch.randn(*ids.shape, len(self._mean), generator=generator).to(device) @ self._root.T
        likeness = least + (most - least) * torch.rand(*ids.shape, 1, generator=generator).to(device)
        length = self._lengths[torch.randint(len(self._lengths), ids.shape, generator=generator).to(device)]
        own = normalize(self._table[ids] - self._mean, dim=-1)
        other = normalize(noise - (noise * own).sum(-1, keepdim=True) * own, dim=-1)
        return self._mean + length[..., None] * (likeness * own + (1 - likeness.square()).sqrt() * other)

    def synonym_embeddings(self, frames: ConceptTokens, least: float, generator: torch.Generator) -> SoftTokens | None:
        """For every other sentence a made-up word as like the concept's as its synonyms are, by a cosine of ``least`` to 1; 1: for none."""
        if least >= 1:
            return None
        return SoftTokens(
            self.draw(frames.tokens.ids, generator, least, 1.0), frames.concept_mask() & _every_other(frames)[:, None]
        )

    def fraction_within(self, name: str, words: Sequence[str]) -> float:
        """Share of the words that are more like the name than any made-up word that is held: by the best cosine between their tokens."""
        tokens = self.student.model.tokenize([name, *words])
        rows = zip(normalize(self._table[tokens.ids] - self._mean, dim=-1), tokens.eos.tolist(), strict=True)
        own, *others = (row[1:end] for row, end in rows)
        return sum(float((other @ own.T).max()) >= self.reach for other in others) / max(1, len(others))

    def prediction_loss(self, domain: ConceptPrompts, size: int, generator: torch.Generator) -> Tensor:
        """The first loss over so many of the concept's sentences, each at a state of its own trajectories: a scalar."""
        batch, model = domain.draw(size, generator), self.student.model
        before, after = self._read(domain.frames[batch.prompt], generator)
        with torch.no_grad():
            target = model.predict(batch.z, batch.t, before).value
        return prediction_error(self.student, batch.z, batch.t, after, target)

    def state_loss(self, domain: ConceptPrompts, size: int, generator: torch.Generator) -> Tensor:
        """The second loss over so many of the concept's sentences: a scalar."""
        before, after = self._read(domain.frames[domain.draw(size, generator).prompt], generator)
        return (1 - self._similarity(self._similarity.read(after.states), self._similarity.read(before.states))).mean()

    def _read(self, frames: ConceptTokens, generator: torch.Generator) -> tuple[Conditioning, Conditioning]:
        """Sentences with made-up words, as the original and as the student reads them."""
        frames = self._in_one_token(frames, generator)
        soft = SoftTokens(self.draw(frames.tokens.ids, generator, 0.0, self.reach), frames.concept_mask())
        with torch.no_grad():
            before = self.student.model.encode(frames.tokens, soft=soft)
        return before, self.student.encode(frames.tokens, soft=soft)

    def _in_one_token(self, frames: ConceptTokens, generator: torch.Generator) -> ConceptTokens:
        """Every other sentence about a concept of several tokens with one in their place, any of them: most words are one token."""
        own = frames.concept_mask()
        several = own.sum(1) > 1
        if not bool(several.any()):
            return frames
        drawn = torch.rand(own.shape, generator=generator).to(own.device)
        return frames.collapse_concept(several & _every_other(frames), (drawn * own).argmax(1), self._padding)


def _every_other(frames: ConceptTokens) -> Tensor:
    return torch.arange(len(frames), device=frames.context_mask.device) % 2 == 0
