"""Batch-TopK autoencoders of equal size, trained side by side, some of them as Matryoshka autoencoders.

Bussmann et al. 2025 (arXiv 2503.17547): each prefix of a Matryoshka autoencoder's features must reconstruct alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

AUX_WEIGHT, AUX_TOKENS = 1 / 32, 128
"""Weight of the loss that revives dead features, and the number of tokens that it reads."""
DEAD_AFTER = 100
"""A feature that was inactive for this many batches counts as dead."""
THRESHOLD_RATE = 0.01


def layer_norm(states: Tensor) -> Tensor:
    """Returns states ``(N, D)`` without their mean, divided by their standard deviation, as SAELens does."""
    centred = states - states.mean(-1, keepdim=True)
    return centred / (centred.std(-1, keepdim=True) + 1e-5)


def batch_topk(acts: Tensor, count: int) -> Tensor:
    """Keeps the ``count`` largest entries of a whole batch ``(N, F)``."""
    place = max(acts.numel() - count, 0)
    smallest = np.partition(acts.detach().numpy().ravel(), place)[place]  # torch.kthvalue takes ten times as long
    return acts * (acts >= max(float(smallest), torch.finfo(acts.dtype).tiny))


class AutoencoderStack(nn.Module):
    """Autoencoders of one size.

    Args:
        levels: for each autoencoder the cumulative widths of its nested prefixes; the last one is its size.
        width: size D of the states.
        sparsity: mean number of active features per token.
        seed: seed of the weights.
    """

    def __init__(self, levels: Sequence[Sequence[int]], width: int, sparsity: int, seed: int) -> None:
        super().__init__()
        self.levels, self.sparsity = [tuple(widths) for widths in levels], sparsity
        count, size = len(levels), levels[0][-1]
        generator = torch.Generator().manual_seed(seed)
        rows = torch.nn.functional.normalize(torch.randn(count, size, width, generator=generator), dim=-1)
        self.decoder = nn.Parameter(rows)
        self.encoder = nn.Parameter(rows.transpose(1, 2).clone())
        self.encoder_bias = nn.Parameter(torch.zeros(count, size))
        self.decoder_bias = nn.Parameter(torch.zeros(count, width))
        self.register_buffer("threshold", torch.zeros(count))
        self.register_buffer("idle", torch.zeros(count, size))

    def loss(self, index: int, states: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the training loss and the share of variance that is not reconstructed.

        Args:
            index: the autoencoder.
            states: normalized states ``(N, D)``.
        """
        centred = states - self.decoder_bias[index]
        pre = centred @ self.encoder[index] + self.encoder_bias[index]
        acts = batch_topk(pre.relu(), self.sparsity * len(states))
        self._observe(index, acts.detach())
        residual, losses = centred, [centred.square().mean()]
        for first, last in pairwise((0, *self.levels[index])):
            residual = residual - acts[:, first:last] @ self.decoder[index, first:last]
            losses.append(residual.square().mean())
        unexplained = losses[-1].detach() / states.var(0).mean()
        return torch.stack(losses).mean() + AUX_WEIGHT * self._revival(index, pre, residual.detach()), unexplained

    def _revival(self, index: int, pre: Tensor, residual: Tensor) -> Tensor:
        """Returns how badly the dead features reconstruct what the others leave."""
        dead = self.idle[index] >= DEAD_AFTER
        if not bool(dead.any()):
            return residual.new_zeros(())
        few = pre[:AUX_TOKENS, dead].relu()
        rest = residual[:AUX_TOKENS] - few @ self.decoder[index, dead]
        return rest.square().mean()

    @torch.no_grad()
    def _observe(self, index: int, acts: Tensor) -> None:
        """Moves the threshold towards the least kept activation and counts the batches without each feature."""
        active = acts > 0
        smallest = acts[active].min()
        rate = THRESHOLD_RATE if self.threshold[index] > 0 else 1.0
        self.threshold[index] += rate * (smallest - self.threshold[index])
        self.idle[index] = (self.idle[index] + 1) * ~active.any(0)

    @property
    def dead_share(self) -> float:
        """Share of the features of all autoencoders that are dead."""
        return float((self.idle >= DEAD_AFTER).float().mean())

    @torch.no_grad()
    def normalize_decoder(self) -> None:
        """Scales the rows of all decoders to unit norm."""
        self.decoder /= self.decoder.norm(dim=-1, keepdim=True).clamp(min=1e-8)
