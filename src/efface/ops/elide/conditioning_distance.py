"""How far apart two conditionings are for the denoiser, part by part.

Stable Diffusion's denoiser reads CLIP's states, which are the only part. The transformers of FLUX and SD3 read T5's
states and CLIP's pooled state, SD3's also CLIP's states. The parts differ in size, so each is measured by itself:

    parts(a, b) = [ |a - b|_M^2 ]        M = sum_l W_l^T W_l over the matrices W_l that read the part

SDXL's pooled state is no part of its own: it follows from the states before the encoder's last layer, which stays.
"""

from __future__ import annotations

import torch
from torch import Tensor

from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning
from efface.ops.text.similarity import Similarity, metric_root


class ConditioningDistance:
    """Squared distances of conditionings in the metric in which the denoiser reads them.

    Args:
        model: the original model, which provides the matrices; no reference to it is kept.
    """

    @torch.no_grad()
    def __init__(self, model: EditableModel) -> None:
        self._similarity = Similarity(model, "kv_distance")
        tokens = model.tokenize([""])
        self._empty = model.encode(tokens)
        first, t5_first = self._similarity.first_position, tokens.state_offset
        self._rows = [slice(first, t5_first), slice(t5_first, None)] if t5_first else [slice(first, None)]
        self._pooled_root = metric_root(model, "reads_pooled") if "transformer" in model.components else None

    def __call__(self, a: Conditioning, b: Conditioning) -> list[Tensor]:
        """Computes the distance of each part: ``(B,)`` for conditionings of B prompts, or of one and B."""
        states = [(a.states[:, rows].float(), b.states[:, rows].float()) for rows in self._rows]
        distances = [self._similarity.squared_distance(*pair) for pair in states]
        if self._pooled_root is not None:
            distances.append(((a.pooled.float() - b.pooled.float()) @ self._pooled_root).square().sum(1))
        return distances

    def from_empty(self, a: Conditioning) -> list[Tensor]:
        """Computes each part's distance from the empty prompt, of the first L positions: ``(B,)``."""
        return self(Conditioning(self._empty.states[:, : a.states.shape[1]], self._empty.pooled), a)
