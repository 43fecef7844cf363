"""The inside-out search: from a concept's own word outwards, for sentences in which a text encoder still lets it through.

The sentence's token embeddings are free, the concept's are not; nothing is denoised. With ``E*`` the original text encoder, ``E`` the one
under attack, ``c`` the concept's word alone, ``p`` the sentence and ``s`` a similarity, the search maximises

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

from efface.core.errors import EffaceError, UnknownName
from efface.models.base import Conditioning, Tokens
from efface.models.soft import Soft

from .framed import Framed
from .similarity import Similarity, at_places

OBJECTIVES = ("a", "b", "c", "d", "domain")


class Encode(Protocol):
    """A text encoder: `efface.models.base.TextToImage.encode`, of the original or of a student."""

    def __call__(self, prompts: Tokens, *, soft: Soft | None = None) -> Conditioning:
        """Tokens to conditioning."""
        ...


@dataclass(frozen=True)
class Search:
    """How to search.

    Attributes:
        objective: the term, ``a`` to ``d``, or ``domain`` for none.
        domain: weight of the part that keeps the search at home; 0 leaves it out.
        steps: of Adam. lr: its learning rate, in units of the mean norm of a token's embedding.

    Raises:
        UnknownName: another objective.
    """

    objective: str = "c"
    domain: float = 1.0
    steps: int = 30
    lr: float = 0.1

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UnknownName("attack objective", self.objective, OBJECTIVES)


def inside_out(
    search: Search, frames: Framed, alone: Framed, *, erased: Encode, original: Encode, table: Tensor, similarity: Similarity
) -> tuple[Soft, Tensor]:
    """Searches from every sentence of a batch at once.

    Args:
        search: how.
        frames: the sentences, whose own tokens the search starts from.
        alone: the concept's word alone, for each of them.
        erased: E.
        original: E*.
        table: the token embeddings, ``(V, D)``; norms stay within the middle nine tenths of its own.
        similarity: s.

    Returns:
        The embeddings found, ``(B, L, D)``, and what the objective reached, ``(B,)``.

    Raises:
        EffaceError: a sentence that is the concept's word alone, so that nothing is free.
    """
    frames = frames.truncated()
    if not bool(frames.free.any(1).all()):
        raise EffaceError("a template has nothing but the concept in it: the search needs a sentence around it")
    table = table.float()
    norms = table.norm(dim=-1)
    low, high = norms.quantile(0.05), norms.quantile(0.95)
    soft = table[frames.tokens.ids].clone().requires_grad_(True)
    with torch.no_grad():
        word_o, word_e = (at_places(e(alone.tokens).states, alone.subject) for e in (original, erased))
    optimiser = torch.optim.Adam([soft], lr=search.lr * float(norms.mean()) / table.shape[1] ** 0.5)

    def reached() -> Tensor:
        held = Soft(soft, frames.free)
        o = at_places(original(frames.tokens, soft=held).states, frames.subject) if _asks_original(search) else None
        e = at_places(erased(frames.tokens, soft=held).states, frames.subject) if search.objective != "domain" else None
        return _objective(search, similarity, o, e, word_o, word_e)

    for _ in range(search.steps):
        (gradient,) = torch.autograd.grad(-reached().sum(), soft)
        soft.grad = gradient * frames.free[..., None]
        optimiser.step()
        with torch.no_grad():
            length = soft.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            soft.mul_(length.clamp(low, high) / length)
    with torch.no_grad():
        return Soft(soft.detach(), frames.free), reached()


def _asks_original(search: Search) -> bool:
    return search.domain > 0 or search.objective in ("b", "d", "domain")


def _objective(search: Search, s: Similarity, o: Tensor | None, e: Tensor | None, word_o: Tensor, word_e: Tensor) -> Tensor:
    """What is maximised, ``(B,)``, from the states at the shared places of p and c."""
    total = torch.zeros((), device=word_o.device)
    if o is not None and (search.domain or search.objective == "domain"):
        total = total + (search.domain or 1.0) * s(o, word_o)
    if e is None:
        return total
    if search.objective == "a":
        return total - s(e, word_e)
    if search.objective == "c":
        return total + s(e, word_o)
    assert o is not None
    return total + s(e, o) if search.objective == "b" else total - s(e, o)
