"""A classifier of noised latents: does the image under the noise show the concept?"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from efface.models.editable import EditableModel

from .attack_context import AttackContext


class LatentClassifier(nn.Module):
    """A convolutional network on a latent; its signal and noise levels shift the features.

    Args:
        channels: number of a latent's channels.
        seed: of the weights.
        width: number of features of the first layer.
    """

    def __init__(self, channels: int, seed: int, width: int = 32) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 2 * width, 4 * width)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(
                nn.Sequential(nn.Conv2d(wide, wider, 3, stride, 1), nn.GroupNorm(8, wider))
                for (wide, wider), stride in zip(pairwise(widths), (1, 2, 1, 2), strict=True)
            )
            self.levels = nn.ModuleList(nn.Linear(2, wider) for wider in widths[1:])
            self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(widths[-1], 1))

    def forward(self, z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Returns the logit of each latent, ``(B,)``, from latents ``(B, C, h, w)`` and levels ``(B,)``."""
        levels, features = torch.stack([alpha, sigma], -1).float(), z.float()
        for layer, level in zip(self.layers, self.levels, strict=True):
            features = nn.functional.silu(layer(features) + level(levels)[..., None, None])
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits[:, 0]

    def gradient(self, z: Tensor, alpha: float, sigma: float) -> Tensor:
        """Returns the gradient of log D(z) with respect to latents ``(B, C, h, w)``."""
        with torch.enable_grad():
            latents = z.detach().float().requires_grad_(True)
            rows = latents.new_ones(len(latents))
            score = nn.functional.logsigmoid(self(latents, alpha * rows, sigma * rows)).sum()
            return torch.autograd.grad(score, latents)[0].to(z)


def train_classifier(
    model: EditableModel, with_concept: Tensor, without: Tensor, steps: int, batch_size: int, learning_rate: float,
    run: AttackContext,
) -> LatentClassifier:  # fmt: skip
    """Trains a classifier on noised latents; high noise levels are drawn more often, as in the paper.

    Half of the latents are mirrored, which a model's latents survive nearly unchanged: few images are learnt by heart.

    Args:
        model: adds the noise.
        with_concept: clean latents that show the concept, ``(N, C, h, w)``.
        without: clean latents that do not, ``(M, C, h, w)``.
        steps: number of steps.
        batch_size: number of latents per step.
        learning_rate: AdamW's learning rate.
        run: gives seeds and progress.
    """
    latents = torch.cat([with_concept, without])
    labels = torch.cat([torch.ones(len(with_concept)), torch.zeros(len(without))]).to(latents.device)
    network = LatentClassifier(latents.shape[1], run.seed_for("classifier")).to(latents.device)
    parameters = dict(network.named_parameters())
    optimiser = torch.optim.AdamW(parameters.values(), lr=learning_rate, weight_decay=1e-3)
    weight = torch.tensor(len(without) / len(with_concept), device=latents.device)
    generator = run.generator("classifier batch")
    levels, ones = model.num_train_timesteps - 1, latents.new_ones(1, 1, 1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed_for("classifier dropout"))
        for step in run.steps(steps, parameters, optimiser, max_grad_norm=1.0, phase="classifier"):
            rows = torch.randint(len(latents), (batch_size,), generator=generator).to(latents.device)
            t = (levels * torch.rand(batch_size, generator=generator) ** (1 / 3)).long().to(latents.device)
            noise = torch.randn(batch_size, *latents.shape[1:], generator=generator).to(latents)
            alpha = _signal(model, t, ones)
            mirrored = torch.rand(batch_size, 1, 1, 1, generator=generator).to(latents.device) < 0.5
            z = model.add_noise(torch.where(mirrored, latents[rows].flip(-1), latents[rows]), noise, t)
            logits = network(z, alpha, (1 - alpha**2).clamp(min=0).sqrt())
            step.optimize(binary_cross_entropy_with_logits(logits, labels[rows], pos_weight=weight))
    return network.eval()


def _signal(model: EditableModel, t: Tensor, one: Tensor) -> Tensor:
    """Returns the signal levels of timesteps ``(B,)``: what is left of a latent of ones without noise."""
    rows = one.expand(len(t), 1, 1, 1)
    return model.add_noise(rows, torch.zeros_like(rows), t).flatten()
