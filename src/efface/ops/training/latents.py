"""Clean latents of images that the original draws, and noised ones to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.seeds import derive_seed
from efface.models.editable import EditableModel

from .progress import Progress, Silent


@dataclass(frozen=True)
class Latents:
    """Clean latents ``(N, C, H, W)`` and which of the prompts each was drawn for, ``(N,)``."""

    model: EditableModel
    x0: Tensor
    prompt: Tensor

    def add_noise(
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
            raise EffaceError(f"a batch of {size} images trains nothing: set batch to 1 or more")
        device = self.model.device
        rows = torch.randint(len(self.x0), (size,), generator=generator)
        t = (
            torch.randint(self.model.timesteps, (size,), generator=generator)
            if density is None
            else torch.multinomial(density, size, replacement=True, generator=generator)
        ).to(device)
        noise = torch.randn(size, *self.x0.shape[1:], generator=generator).to(device, self.x0.dtype)
        return self.model.add_noise(self.x0[rows.to(device)], noise, t), t, noise, self.prompt[rows].to(device)


@torch.no_grad()
def generate_latents(
    model: EditableModel, prompts: Sequence[str], *, count: int, steps: int, guidance: float, seed: int, batch: int | None = None,
    progress: Progress | None = None,
) -> Latents:  # fmt: skip
    """Latents of ``count`` images, going round the prompts in turn, straight out of the sampler.

    Args:
        model: the original.
        prompts: what is drawn.
        count: how many images.
        steps: of the sampler.
        guidance: classifier-free guidance scale.
        seed: image i starts from the noise of ``derive_seed(seed, "latent", i)``.
        batch: images drawn at once; the model's own number by default.
        progress: where to show how far it is.

    Raises:
        EffaceError: no prompts, or no images.
    """
    if not prompts or count < 1:
        raise EffaceError("to draw images needs at least one prompt and one image")
    which = torch.arange(count) % len(prompts)
    seeds = [derive_seed(seed, "latent", number) for number in range(count)]
    asked = [prompts[i] for i in which.tolist()]
    drawn = generate_per_prompt(
        model, asked, seeds, steps=steps, guidance=guidance, batch=batch, progress=progress, name="drawing anchors"
    )
    return Latents(model, drawn.x0, which)


@torch.no_grad()
def generate_per_prompt(
    model: EditableModel, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, guidance: float, batch: int | None = None,
    progress: Progress | None = None, name: str = "drawing",
) -> Latents:  # fmt: skip
    """The latent of one image for each prompt and seed, straight out of the sampler; ``prompt`` numbers the prompts in their order.

    Args:
        model: what draws.
        prompts: what is drawn.
        seeds: one a prompt.
        steps: of the sampler.
        guidance: classifier-free guidance scale.
        batch: images drawn at once; the model's own number by default.
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
