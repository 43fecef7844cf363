"""Clean latents of pictures that the original draws, and noised ones to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.seeds import derive_seed
from efface.models.editable import Editable

from .progress import Progress, Silent


@dataclass(frozen=True)
class Latents:
    """Clean latents ``(N, C, H, W)`` and which of the prompts each was drawn for, ``(N,)``."""

    model: Editable
    clean: Tensor
    prompt: Tensor

    def noised(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A batch as in ordinary training: latents drawn evenly, timesteps evenly, noise.

        Args:
            size: B.
            generator: on the CPU; the same state gives the same batch on every device.

        Returns:
            Noised latents ``(B, C, H, W)``, timesteps ``(B,)``, the noise, and which prompt ``(B,)``.
        """
        if size < 1:
            raise EffaceError(f"a batch of {size} pictures trains nothing: set batch to 1 or more")
        device = self.model.device
        rows = torch.randint(len(self.clean), (size,), generator=generator)
        t = torch.randint(self.model.timesteps, (size,), generator=generator).to(device)
        noise = torch.randn(size, *self.clean.shape[1:], generator=generator).to(device, self.clean.dtype)
        return self.model.noised(self.clean[rows.to(device)], noise, t), t, noise, self.prompt[rows].to(device)


@torch.no_grad()
def draw_latents(
    model: Editable, prompts: Sequence[str], *, count: int, steps: int, guidance: float, seed: int, batch: int = 16,
    progress: Progress | None = None,
) -> Latents:  # fmt: skip
    """Latents of ``count`` pictures, going round the prompts in turn, straight out of the sampler.

    Args:
        model: the original.
        prompts: what is drawn.
        count: how many pictures.
        steps: of the sampler.
        guidance: classifier-free guidance scale.
        seed: picture i starts from the noise of ``derive_seed(seed, "latent", i)``.
        batch: pictures drawn at once.
        progress: where to show how far it is.

    Raises:
        EffaceError: no prompts, or no pictures.
    """
    if not prompts or count < 1:
        raise EffaceError("to draw pictures needs at least one prompt and one picture")
    which = torch.arange(count) % len(prompts)
    cond, progress, parts = model.encode(list(prompts)), progress or Silent(), []
    progress.start("drawing anchors", count, 0)
    try:
        for start in range(0, count, batch):
            numbers = range(start, min(start + batch, count))
            seeds = [derive_seed(seed, "latent", number) for number in numbers]
            rows = cond[which[start : start + len(numbers)].to(model.device)]
            for point in model.trajectory(rows, steps=steps, guidance=guidance, seeds=seeds):
                z = point.z
            parts.append(z)
            progress.update(start + len(numbers), {})
    finally:
        progress.stop()
    return Latents(model, torch.cat(parts), which)
