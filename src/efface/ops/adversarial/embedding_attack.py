"""The inside-out search: from a concept's own word outwards, for sentences in which a text encoder still lets it through.

The sentence's token embeddings are free; nothing is denoised. With ``E*`` the original text encoder, ``E`` the one under attack, ``c``
what stands for the concept, ``p`` the sentence and ``s`` a similarity (`efface.ops.text.similarity`), the search maximises

    domain * s(E*(p), E*(c)) + term,     term one of   (a) -s(E(p), E(c))     (b) s(E(p), E*(p))
                                                       (c)  s(E(p), E*(c))    (d) -s(E(p), E*(p))

The first part keeps it at home: to the original, the sentence shows the concept. The term says that it got through: (a) what is erased is
not seen in it, (b) it was not changed, (c) it still yields the concept in the space that the denoiser reads; (d) are the literal words
of a summary of SAGE (arXiv 2506.09363), whose equations have not been published where they could be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from efface.core.errors import EffaceError, UnknownNameError
from efface.models.protocol import Conditioning, Tokens
from efface.models.soft_prompt import SoftTokens
from efface.ops.text.concept_tokens import ConceptTokens
from efface.ops.text.similarity import Similarity

OBJECTIVES = ("hide_concept", "stay_unchanged", "recover_concept", "diverge", "concept_only")
FREE = ("template", "all")


class Encode(Protocol):
    """A text encoder: `efface.models.protocol.TextToImage.encode`, of the original or of a student."""

    def __call__(self, prompts: Tokens, *, soft: SoftTokens | None = None) -> Conditioning:
        """Tokens to conditioning."""
        ...


@dataclass(frozen=True)
class EmbeddingAttack:
    """How to search.

    Attributes:
        objective: the term, ``a`` to ``d``, or ``domain`` for none.
        domain: weight of the part that keeps the search at home; 0 leaves it out.
        steps: of Adam. lr: its learning rate, in units of the mean norm of a token's embedding.
        free: what changes: the ``template`` around the concept, or ``all``, the concept's own tokens, too.
        scatter: share of the searches that start at random words of the vocabulary instead of the sentence's own.

    Raises:
        UnknownName: another objective, or another part that is free.
    """

    objective: str = "recover_concept"
    concept_weight: float = 1.0
    steps: int = 30
    learning_rate: float = 0.1
    attack_tokens: str = "template"
    random_init_prob: float = 0.0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UnknownNameError("attack objective", self.objective, OBJECTIVES)
        if self.attack_tokens not in FREE:
            raise UnknownNameError("free part of a sentence", self.attack_tokens, FREE)

    @property
    def needs_original(self) -> bool:
        """Whether the original reads the sentence."""
        return self.concept_weight > 0 or self.objective in ("stay_unchanged", "diverge", "concept_only")

    def objective_value(
        self, s: Similarity, o: Tensor | None, e: Tensor | None, word_o: Tensor, word_e: Tensor
    ) -> Tensor:
        """What is maximised, ``(B,)``, from the states of p and c under both encoders."""
        total = torch.zeros((), device=word_o.device)
        if o is not None and (self.concept_weight or self.objective == "concept_only"):
            total = total + (self.concept_weight or 1.0) * s(o, word_o)
        if e is None:
            return total
        if self.objective == "hide_concept":
            return total - s(e, word_e)
        if self.objective == "recover_concept":
            return total + s(e, word_o)
        assert o is not None
        return total + s(e, o) if self.objective == "stay_unchanged" else total - s(e, o)


def inside_out(
    search: EmbeddingAttack, frames: ConceptTokens, alone: ConceptTokens, *, erased: Encode, original: Encode, table: Tensor, similarity: Similarity,
    generator: torch.Generator | None = None, start: Tensor | None = None,
) -> tuple[SoftTokens, Tensor]:  # fmt: skip
    """Searches from every sentence of a batch at once.

    Args:
        search: how.
        frames: the sentences, whose own tokens the search starts from.
        alone: the concept's word alone, for each of them.
        erased: E.
        original: E*.
        table: the token embeddings, ``(V, D)``; norms stay within the middle nine tenths of its own.
        similarity: s.
        generator: draws the random words.
        start: embeddings ``(B, L, D)`` to go on from, such as an earlier search found; by default those of `begin`.

    Returns:
        The embeddings found, ``(B, L, D)``, and what the objective reached, ``(B,)``.

    Raises:
        EffaceError: a sentence that is the concept's word alone, so that nothing is free.
    """
    frames = similarity.compare_positions(frames)
    free = frames.context_mask | frames.concept_mask() if search.attack_tokens == "all" else frames.context_mask
    if not bool(free.any(1).all()):
        raise EffaceError("a template has nothing but the concept in it: the search needs a sentence around it")
    with torch.no_grad():
        word_o, word_e = (similarity.concept(encode, frames, alone) for encode in (original, erased))

    def reached(soft: Tensor) -> Tensor:
        held = SoftTokens(soft, free)
        o = similarity.read(original(frames.tokens, soft=held).states, frames) if search.needs_original else None
        e = (
            similarity.read(erased(frames.tokens, soft=held).states, frames)
            if search.objective != "concept_only"
            else None
        )
        return search.objective_value(similarity, o, e, word_o, word_e)

    table = table.float()
    norms = table.norm(dim=-1)
    low, high = norms.quantile(0.05), norms.quantile(0.95)
    begun = initial_embeddings(search, frames, table, generator) if start is None else start[:, : free.shape[1]].clone()
    soft = begun.requires_grad_(True)
    optimiser = torch.optim.Adam([soft], lr=search.learning_rate * float(norms.mean()) / table.shape[1] ** 0.5)
    for _ in range(search.steps):
        (gradient,) = torch.autograd.grad(-reached(soft).sum(), soft)
        soft.grad = gradient * free[..., None]
        optimiser.step()
        with torch.no_grad():
            length = soft.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            soft.mul_(length.clamp(low, high) / length)
    with torch.no_grad():
        return SoftTokens(soft.detach(), free), reached(soft)


def initial_embeddings(
    search: EmbeddingAttack, frames: ConceptTokens, table: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Where a search begins, ``(B, L, D)``: the sentences' own embeddings, or random words' in place of what is around the concept."""
    own, (rows, length) = table[frames.tokens.ids].clone(), frames.context_mask.shape
    if not search.random_init_prob:
        return own
    random = table[torch.randint(len(table), (rows, length), generator=generator).to(table.device)]
    drawn = (torch.rand(rows, 1, generator=generator) < search.random_init_prob).to(table.device)
    return torch.where((frames.context_mask & drawn)[..., None], random, own)
