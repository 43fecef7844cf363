"""How alike two prompts are to the denoiser, by what the text encoder makes of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from efface.core.errors import UnknownNameError
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning, Tokens

from .concept_tokens import ConceptTokens

SIMILARITIES = ("kv_distance", "token_cosine", "eos_cosine", "kv_cosine")


class Similarity:
    """A measure s(a, b), 1 where both are the same to it.

    Three compare a sentence with the concept's word alone, by the mean cosine over the places that both have: ``tokens`` takes the
    concept's tokens and EOS, ``eos`` that last place only, ``kv`` all of them in the metric in which the denoiser's attention reads
    them, ``<x, y> = x^T M y`` with ``M = sum_l W_l^T W_l`` over its key and value matrices.

    ``sentence`` compares whole conditionings in that metric, and a sentence with itself as it stood, h_0 being those of the empty prompt:

        s(a, b) = 1 - sum_places |a - b|_M^2 / sum_places |h_0 - b|_M^2

    Where it is 1, the frozen denoiser draws the same. Cosines at a few places can be near 1 while it draws something else: it also reads
    the padding, and it reads differences that are small beside what all states share.

    Args:
        model: the original, whose keys and values are taken; it is not kept.
        kind: one of `SIMILARITIES`.

    Raises:
        UnknownName: another kind.
    """

    def __init__(self, model: EditableModel, kind: str = "kv_distance") -> None:
        if kind not in SIMILARITIES:
            raise UnknownNameError("similarity", kind, SIMILARITIES)
        self.kind = kind
        self._root = _metric_root(model) if kind in ("kv_cosine", "kv_distance") else None
        if self.compare_all:
            with torch.no_grad():
                self._empty = model.encode([""]).states[:, 1:].float()

    @property
    def compare_all(self) -> bool:
        """Whether all places count, with the padding."""
        return self.kind == "kv_distance"

    def compare_positions(self, frames: ConceptTokens) -> ConceptTokens:
        """The sentences with the places that count and no padding beside them."""
        return frames if self.compare_all else frames.truncated()

    def concept(self, encode: Callable[[Tokens], Conditioning], frames: ConceptTokens, alone: ConceptTokens) -> Tensor:
        """What stands for the concept under an encoder: the sentences as they stand, or its word alone, ``(B, n, D)``."""
        asked = frames if self.compare_all else alone
        return self.read(encode(asked.tokens).states, asked)

    def read(self, states: Tensor, frames: ConceptTokens | None = None) -> Tensor:
        """The states ``(B, L, D)`` at the places that count, in float32: ``(B, n, D)``; BOS, which every prompt shares, is none of them.

        ``frames`` say which places are the concept's; ``sentence`` needs none.
        """
        if self.compare_all:
            return states[:, 1:].float()
        assert frames is not None
        return at_places(states, frames.concept_positions).float()

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """States ``(B, n, D)`` and ``(B or 1, n, D)`` at the same places, EOS last of those that `tokens` names: ``(B,)``, at most 1."""
        if self.kind == "eos_cosine":
            a, b = a[:, -1:], b[:, -1:]
        if self._root is None:
            return cosine_similarity(a, b, dim=-1).mean(-1)
        if self.compare_all:
            return 1 - self.apart(a, b) / self.apart(self._empty, b).clamp(min=1e-12)
        return cosine_similarity(a @ self._root, b @ self._root, dim=-1).mean(-1)

    def apart(self, a: Tensor, b: Tensor) -> Tensor:
        """sum_places |a - b|_M^2 of states ``(B or 1, n, D)`` in the metric in which the denoiser reads them: ``(B,)``."""
        assert self._root is not None
        distance: Tensor = ((a - b) @ self._root).square().sum((1, 2))
        return distance


def at_places(states: Tensor, places: Tensor) -> Tensor:
    """The states ``(B, L, D)`` at places ``(B, n)``: ``(B, n, D)``."""
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))


def _metric_root(model: EditableModel) -> Tensor:
    """R ``(D, D)`` with ``R R^T`` the sum of ``W^T W`` over the keys and values of the attention to the text."""
    matrices = [w.detach().double() for w in model.parameter_group("cross_kv").parameters.values()]
    values, vectors = torch.linalg.eigh(torch.stack([w.T @ w for w in matrices]).sum(0))
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return root.to(matrices[0].device, torch.float32)
