"""Similarity of two prompts for the denoiser, computed from their text encoder states."""

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
    """A similarity s(a, b) of text encoder states, at most 1, which it is for equal states.

    Three kinds compare a prompt with the concept phrase alone, by the mean cosine over shared positions:

    - ``token_cosine``: the concept's tokens and EOS.
    - ``eos_cosine``: EOS only.
    - ``kv_cosine``: the concept's tokens and EOS, in the metric of the denoiser's layers that read the states: ``<x, y>
      = x^T M y`` with ``M = sum_l W_l^T W_l`` over the cross-attention's key and value matrices W_l, or over the
      context embedder of SD3 and FLUX.

    ``kv_distance`` compares all positions in that metric, and compares a prompt with an earlier version of itself. h_0
    are the states of the empty prompt:

        s(a, b) = 1 - sum_positions |a - b|_M^2 / sum_positions |h_0 - b|_M^2

    At s = 1 the frozen denoiser makes the same prediction. A cosine at a few positions can be near 1 while the
    denoiser's image differs: the denoiser also reads the padding, and differences that are small next to the component
    that all states share.

    Args:
        model: the original model, which provides the key and value matrices; no reference to it is kept.
        kind: one of `SIMILARITIES`.

    Attributes:
        first_position: first compared position of ``kv_distance``, after CLIP's BOS.

    Raises:
        UnknownNameError: an unknown kind.
    """

    def __init__(self, model: EditableModel, kind: str = "kv_distance") -> None:
        if kind not in SIMILARITIES:
            raise UnknownNameError("similarity", kind, SIMILARITIES)
        self.kind = kind
        self._root = metric_root(model, "reads_text") if kind in ("kv_cosine", "kv_distance") else None
        if self.uses_all_positions:
            with torch.no_grad():
                empty = model.tokenize([""])
                self.first_position = 0 if not empty.start and not empty.state_offset else 1
                self._empty = model.encode(empty).states[:, self.first_position :].float()

    @property
    def uses_all_positions(self) -> bool:
        """Whether all positions are compared, including the padding."""
        return self.kind == "kv_distance"

    def trim_unused_padding(self, prompt_tokens: ConceptTokens) -> ConceptTokens:
        """Removes the padding behind the longest prompt if this kind does not read it."""
        return prompt_tokens if self.uses_all_positions else prompt_tokens.truncated()

    def concept_states(
        self, encode: Callable[[Tokens], Conditioning], prompt_tokens: ConceptTokens, concept_only: ConceptTokens
    ) -> Tensor:
        """Encodes the reference states of the concept, ``(B, n, D)``: the prompts, or the concept phrase alone."""
        reference = prompt_tokens if self.uses_all_positions else concept_only
        return self.compared_states(encode(reference.tokens).states, reference)

    def compared_states(self, states: Tensor, prompt_tokens: ConceptTokens | None = None) -> Tensor:
        """Selects the states at the compared positions, never CLIP's BOS, which all prompts share.

        Args:
            states: ``(B, L, D)``.
            prompt_tokens: give the concept's positions; ``kv_distance`` does not need them.

        Returns:
            ``(B, n, D)`` in float32.
        """
        if self.uses_all_positions:
            return states[:, self.first_position :].float()
        assert prompt_tokens is not None
        positions = prompt_tokens.concept_positions + prompt_tokens.tokens.state_offset
        return gather_positions(states, positions).float()

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Computes s(a, b) of states ``(B, n, D)`` and ``(B or 1, n, D)`` from `compared_states`: ``(B,)``."""
        if self.kind == "eos_cosine":
            a, b = a[:, -1:], b[:, -1:]
        if self._root is None:
            return cosine_similarity(a, b, dim=-1).mean(-1)
        if self.uses_all_positions:
            return 1 - self.squared_distance(a, b) / self.squared_distance(self._empty, b).clamp(min=1e-12)
        return cosine_similarity(a @ self._root, b @ self._root, dim=-1).mean(-1)

    def squared_distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Computes sum_positions |a - b|_M^2 of states ``(B or 1, n, D)`` in the cross-attention metric: ``(B,)``."""
        assert self._root is not None
        distance: Tensor = ((a - b) @ self._root).square().sum((1, 2))
        return distance

    def distance_from_empty(self, a: Tensor) -> Tensor:
        """Computes |h_0 - a|_M^2 of states ``(B, n, D)``, of the first n positions, for ``kv_distance``: ``(B,)``."""
        return self.squared_distance(self._empty[:, : a.shape[1]], a)


def gather_positions(states: Tensor, positions: Tensor) -> Tensor:
    """Selects states ``(B, L, D)`` at positions ``(B, n)``: ``(B, n, D)``."""
    return states.gather(1, positions[..., None].expand(-1, -1, states.shape[-1]))


def metric_root(model: EditableModel, role: str) -> Tensor:
    """Computes R ``(D, D)`` with ``R R^T = sum_l W_l^T W_l`` over a role's matrices, such as ``reads_text``."""
    matrices = [w.detach().double() for w in model.parameter_group(role).parameters.values()]
    values, vectors = torch.linalg.eigh(torch.stack([w.T @ w for w in matrices]).sum(0))
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return root.to(matrices[0].device, torch.float32)
