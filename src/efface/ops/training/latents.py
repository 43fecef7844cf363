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

    def noised(
        self, size: int, generator: torch.Generator, density: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A batch as in ordinary training: latents drawn evenly, timesteps evenly or by a density, noise.

        Args:
            size: B.
            generator: on the CPU; the same state gives the same batch on every device.
            density: how often each timestep is drawn, ``(timesteps,)``, up to a factor.

        Returns:
            Noised latents ``(B, C, H, W)``, timesteps ``(B,)``, the noise, and which prompt ``(B,)``.
        """
        if size < 1:
            raise EffaceError(f"a batch of {size} pictures trains nothing: set batch to 1 or more")
        device = self.model.device
        rows = torch.randint(len(self.clean), (size,), generator=generator)
        t = (
            torch.randint(self.model.timesteps, (size,), generator=generator)
            if density is None
            else torch.multinomial(density, size, replacement=True, generator=generator)
        ).to(device)
        noise = torch.randn(size, *self.clean.shape[1:], generator=generator).to(device, self.clean.dtype)
        return self.model.noised(self.clean[rows.to(device)], noise, t), t, noise, self.prompt[rows].to(device)


@torch.no_grad()
def draw_latents(
    model: Editable, prompts: Sequence[str], *, count: int, steps: int, guidance: float, seed: int, batch: int | None = None,
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
        batch: pictures drawn at once; the model's own number by default.
        progress: where to show how far it is.

    Raises:
        EffaceError: no prompts, or no pictures.
    """
    if not prompts or count < 1:
        raise EffaceError("to draw pictures needs at least one prompt and one picture")
    which = torch.arange(count) % len(prompts)
    seeds = [derive_seed(seed, "latent", number) for number in range(count)]
    asked = [prompts[i] for i in which.tolist()]
    drawn = draw_each(
        model, asked, seeds, steps=steps, guidance=guidance, batch=batch, progress=progress, name="drawing anchors"
    )
    return Latents(model, drawn.clean, which)


@torch.no_grad()
def draw_each(
    model: Editable, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, guidance: float, batch: int | None = None,
    progress: Progress | None = None, name: str = "drawing",
) -> Latents:  # fmt: skip
    """The latent of one picture for each prompt and seed, straight out of the sampler; ``prompt`` numbers the prompts in their order.

    Args:
        model: what draws.
        prompts: what is drawn.
        seeds: one a prompt.
        steps: of the sampler.
        guidance: classifier-free guidance scale.
        batch: pictures drawn at once; the model's own number by default.
        progress: where to show how far it is.
        name: what to call it there.
    """
    progress, parts, batch = progress or Silent(), [], batch or model.batch
    progress.start(name, len(prompts), 0)
    try:
        for start in range(0, len(prompts), batch):
            part = slice(start, start + batch)
            for point in model.trajectory(
                model.encode(list(prompts[part])), steps=steps, guidance=guidance, seeds=seeds[part]
            ):
                z = point.z
            parts.append(z)
            progress.update(min(start + batch, len(prompts)), {})
    finally:
        progress.stop()
    return Latents(model, torch.cat(parts), torch.arange(len(prompts)))
