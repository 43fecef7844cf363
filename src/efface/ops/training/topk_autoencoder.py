"""Training of a TopK sparse autoencoder on states of a text encoder (Gao et al. 2024, arXiv 2406.04093)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.ops.editing.autoencoder import decode_features, encode_features

AUX_WEIGHT = 1 / 32
"""Weight of the loss by which features that never fire learn what the others leave."""
PROMPTS_AT_ONCE = 64


@torch.no_grad()
def layer_states(model: EditableModel, layer: nn.Module, prompts: Sequence[str]) -> Tensor:
    """Computes the states behind a layer of the text encoder at every position but BOS, float32 ``(P, L - 1, D)``."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        states = output[0] if isinstance(output, tuple) else output
        found.append(states[:, 1:].float())

    handle = layer.register_forward_hook(keep)
    try:
        for start in range(0, len(prompts), PROMPTS_AT_ONCE):
            model.encode(list(prompts[start : start + PROMPTS_AT_ONCE]))
    finally:
        handle.remove()
    return torch.cat(found)


def geometric_median(points: Tensor, iterations: int = 100, tolerance: float = 1e-6) -> Tensor:
    """Computes the point with the least sum of distances to points ``(N, D)`` (Weiszfeld 1937)."""
    median = points.mean(0)
    for _ in range(iterations):
        weights = 1 / (points - median).norm(dim=1).clamp(min=1e-8)
        new = (weights[:, None] * points).sum(0) / weights.sum()
        if float((new - median).norm()) < tolerance:
            return new
        median = new
    return median


class TopKAutoencoder:
    """An autoencoder in training: x' = W_dec f + b_pre with f = ReLU(TopK(W_enc (x - b_pre) + b_lat)).

    Args:
        states: states to learn, ``(N, D)``; b_pre starts as the geometric median of some of them.
        num_features: number of features F.
        num_active: number k of features above 0.
        num_dead: number of features that learn the residual, of those that have not fired.
        generator: draws the decoder, on the CPU; the encoder starts as its transpose.

    Raises:
        EffaceError: more active features than features, or none.
    """

    def __init__(
        self, states: Tensor, num_features: int, num_active: int, num_dead: int, generator: torch.Generator
    ) -> None:
        if not 0 < num_active <= num_features:
            raise EffaceError(f"{num_active} of {num_features} features cannot be active: set num_active lower")
        width = states.shape[1]
        decoder = torch.randn(width, num_features, generator=generator)
        decoder = (decoder / decoder.norm(dim=0)).to(states.device)
        start = {
            "encoder": decoder.T.contiguous(),
            "encoder_bias": torch.zeros(num_features, device=states.device),
            "decoder": decoder,
            "decoder_bias": geometric_median(states[:: max(1, len(states) // 4096)]),
        }
        self.parameters = {name: tensor.clone().requires_grad_(True) for name, tensor in start.items()}
        self.num_active, self.num_dead = num_active, min(num_dead, num_features)
        self.scale = 1 / float(states.var(0).mean().clamp(min=1e-12))
        self.steps_since_fired = torch.zeros(num_features, device=states.device)

    def loss(self, states: Tensor, dead_after: int) -> Tensor:
        """Computes the reconstruction loss of states ``(N, D)``, and that of dead features on what is left.

        Args:
            states: a batch.
            dead_after: number of steps after which a feature that has not fired is dead.
        """
        features = encode_features(states, self.parameters, self.num_active)
        reconstructed = decode_features(features, self.parameters)
        fired = (features > 0).any(0)
        self.steps_since_fired = torch.where(fired, 0.0, self.steps_since_fired + 1)
        residual = (states - reconstructed).detach()
        return self.scale * (reconstructed - states).square().mean() + AUX_WEIGHT * self._dead_loss(
            states, residual, self.steps_since_fired > dead_after
        )

    def _dead_loss(self, states: Tensor, residual: Tensor, dead: Tensor) -> Tensor:
        count = min(self.num_dead, int(dead.sum()))
        if not count:
            return states.new_zeros(())
        p = self.parameters
        activations = linear(states - p["decoder_bias"], p["encoder"], p["encoder_bias"])
        top, indices = activations.masked_fill(~dead, -torch.inf).topk(count, dim=-1)
        features = torch.zeros_like(activations).scatter(-1, indices, top.relu())
        return (linear(features, p["decoder"]) - residual).square().mean() / residual.var().clamp(min=1e-12)

    @torch.no_grad()
    def remove_radial_gradient(self) -> None:
        """Removes the part of the decoder's gradient that would change its columns' lengths."""
        decoder = self.parameters["decoder"]
        if decoder.grad is not None:
            decoder.grad -= (decoder.grad * decoder).sum(0) * decoder

    @torch.no_grad()
    def normalise(self) -> None:
        """Scales the decoder's columns to length 1."""
        self.parameters["decoder"] /= self.parameters["decoder"].norm(dim=0).clamp(min=1e-12)

    def state(self) -> dict[str, Tensor]:
        """Returns what a checkpoint needs besides the parameters."""
        return {"steps_since_fired": self.steps_since_fired}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""
        self.steps_since_fired = state["steps_since_fired"].to(self.steps_since_fired.device)
