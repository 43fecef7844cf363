"""How alike two prompts are to the denoiser, by the text encoder's states at some of their places."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from efface.core.errors import UnknownName
from efface.models.editable import Editable

SIMILARITIES = ("tokens", "eos", "kv")


class Similarity:
    """The mean cosine over the places that two prompts share.

    ``tokens`` takes the concept's tokens and EOS, ``eos`` the last place alone, ``kv`` all of them in the metric in which the denoiser's
    attention reads them, ``<x, y> = x^T (sum_l W_l^T W_l) y`` over its key and value matrices.

    Args:
        model: whose keys and values; not kept.
        kind: one of `SIMILARITIES`.

    Raises:
        UnknownName: another kind.
    """

    def __init__(self, model: Editable, kind: str = "tokens") -> None:
        if kind not in SIMILARITIES:
            raise UnknownName("similarity", kind, SIMILARITIES)
        self.kind = kind
        self._root = _metric_root(model) if kind == "kv" else None

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """States ``(B, n, D)`` and ``(B or 1, n, D)`` at the same n places, EOS last: ``(B,)`` in [-1, 1]."""
        if self.kind == "eos":
            a, b = a[:, -1:], b[:, -1:]
        if self._root is not None:
            a, b = a @ self._root, b @ self._root
        return cosine_similarity(a, b, dim=-1).mean(-1)


def at_places(states: Tensor, places: Tensor) -> Tensor:
    """The states ``(B, L, D)`` at places ``(B, n)``: ``(B, n, D)``."""
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))


def _metric_root(model: Editable) -> Tensor:
    """R ``(D, D)`` with ``R R^T`` the sum of ``W^T W`` over the keys and values of the attention to the text."""
    matrices = [w.detach().double() for w in model.sites("cross_kv").parameters.values()]
    values, vectors = torch.linalg.eigh(torch.stack([w.T @ w for w in matrices]).sum(0))
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return root.to(matrices[0].device, torch.float32)
