"""PatchGAN discriminator of latents (Isola et al., arXiv 1611.07004), as DoCo trains it against the student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

WIDTHS = (64, 128, 256, 512)
"""Channels behind each convolution that halves the map."""


class PatchDiscriminator:
    """Tells latents of two sources apart, patch by patch, with an optimiser of its own; checkpoints contain both.

    A convolution of size 4 halves the map until it is 4 x 4, at most four times, and a last one gives the logits: for
    latents of 64 x 64, 3 x 3 of them. As published, the first convolution has no batch normalisation, and
    normalisation uses the batch's own moments.

    Args:
        channels: channels of the latents.
        size: height and width of the latents.
        learning_rate: of its Adam with beta_1 = 0.5.
        generator: draws the weights, normal with standard deviation 0.02; on the CPU.
        device: device of the weights.
    """

    def __init__(
        self, channels: int, size: int, learning_rate: float, generator: torch.Generator, device: torch.device
    ) -> None:
        depth = min(max((size // 4).bit_length() - 1, 1), len(WIDTHS))
        layers: list[nn.Module] = []
        for i, width in enumerate(WIDTHS[:depth]):
            layers.append(_convolution(channels, width, stride=2))
            if i:
                layers.append(nn.BatchNorm2d(width, track_running_stats=False))
            layers.append(nn.LeakyReLU(0.2))
            channels = width
        self.module = nn.Sequential(*layers, _convolution(channels, 1, stride=1))
        with torch.no_grad():
            for layer in self.module:
                if isinstance(layer, nn.Conv2d):
                    nn.init.normal_(layer.weight, 0.0, 0.02, generator=generator)
                    nn.init.zeros_(cast(Tensor, layer.bias))
        self.module.to(device)
        self.optimiser = torch.optim.Adam(self.module.parameters(), lr=learning_rate, betas=(0.5, 0.999))

    @property
    def trainable_params(self) -> dict[str, Tensor]:
        """Its weights by name, for `Run.steps`."""
        return dict(self.module.named_parameters())

    def loss(self, latents: Tensor, label: float) -> Tensor:
        """Computes the cross-entropy of its logits for latents ``(B, C, H, W)`` with a label 0 or 1, a scalar."""
        logits: Tensor = self.module(latents.float())
        return bce(logits, torch.full_like(logits, label))

    def update(self, loss: Tensor) -> None:
        """Takes one step that descends a loss; gradients reach its own weights only."""
        parameters = list(self.module.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Returns weights and moments of the optimiser by name."""
        state = {f"weights.{name}": tensor.detach() for name, tensor in self.module.named_parameters()}
        for name, parameter in self.module.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                state[f"{key}.{name}"] = value
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""
        for name, parameter in self.module.named_parameters():
            parameter.data.copy_(state[f"weights.{name}"])
            moments = {key.removesuffix(f".{name}"): value for key, value in state.items() if key.endswith(f".{name}")}
            del moments["weights"]
            self.optimiser.state[parameter] = {
                key: value.clone() if key == "step" else value.to(parameter.device).clone()
                for key, value in moments.items()
            }


def _convolution(channels: int, width: int, stride: int) -> nn.Module:
    """A convolution of size 4 without initial weights: torch's initialisation would draw from the global generator."""
    return torch.nn.utils.skip_init(nn.Conv2d, channels, width, kernel_size=4, stride=stride, padding=1)
