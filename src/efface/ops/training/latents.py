"""Clean latents that the original model generates, and noised batches of them to train on."""

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
    """Clean latents with the prompt that each was generated for.

    Attributes:
        model: the model that generated them, whose scheduler adds the noise.
        x0: clean latents, ``(N, C, H, W)``.
        prompt_index: index of each latent's prompt, ``(N,)``.
    """

    model: EditableModel
    x0: Tensor
    prompt_index: Tensor

    def noised_batch(
        self, batch_size: int, generator: torch.Generator, density: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Samples a batch as in ordinary denoising training.

        Args:
            batch_size: B.
            generator: on the CPU; the same state gives the same batch on every device.
            density: unnormalised probability of each timestep, ``(timesteps,)``; uniform by default.

        Returns:
            Noised latents ``(B, C, H, W)``, timesteps ``(B,)``, noise ``(B, C, H, W)`` and prompt indices ``(B,)``.

        Raises:
            EffaceError: a batch size below 1.
        """
        clean, t, noise, index = self._draw(batch_size, generator, density)
        return self.model.add_noise(clean, noise, t), t, noise, index

    def flow_batch(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`noised_batch` for flow matching, with the velocity noise - x0 ``(B, C, H, W)`` in place of the noise."""
        clean, t, noise, index = self._draw(batch_size, generator, None)
        return self.model.add_noise(clean, noise, t), t, noise - clean, index

    def _draw(
        self, batch_size: int, generator: torch.Generator, density: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Samples clean latents, timesteps, noise and prompt indices."""
        if batch_size < 1:
            raise EffaceError(f"a batch of {batch_size} images trains nothing: set the batch size to 1 or more")
        device = self.model.device
        rows = torch.randint(len(self.x0), (batch_size,), generator=generator)
        if density is None:
            t = torch.randint(self.model.num_train_timesteps, (batch_size,), generator=generator).to(device)
        else:
            t = torch.multinomial(density, batch_size, replacement=True, generator=generator).to(device)
        noise = torch.randn(batch_size, *self.x0.shape[1:], generator=generator).to(device, self.x0.dtype)
        return self.x0[rows.to(device)], t, noise, self.prompt_index[rows].to(device)


@torch.no_grad()
def generate_latents(
    model: EditableModel,
    prompts: Sequence[str],
    *,
    num_images: int,
    num_inference_steps: int,
    guidance_scale: float,
    seed: int,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Latents:
    """Generates the latents of ``num_images`` images, cycling through the prompts.

    Args:
        model: the original model.
        prompts: image i belongs to prompt ``i % len(prompts)``.
        num_images: number of images.
        num_inference_steps: steps of the sampler.
        guidance_scale: classifier-free guidance scale.
        seed: image i starts from the noise of ``derive_seed(seed, "latent", i)``.
        batch_size: images generated at the same time; the model's own batch size by default.
        progress: receives the number of finished images.

    Raises:
        EffaceError: no prompts, or no images.
    """
    if not prompts or num_images < 1:
        raise EffaceError("generating latents needs at least one prompt and one image")
    prompt_index = torch.arange(num_images) % len(prompts)
    latents = generate_per_prompt(
        model,
        [prompts[i] for i in prompt_index.tolist()],
        [derive_seed(seed, "latent", number) for number in range(num_images)],
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        batch_size=batch_size,
        progress=progress,
    )
    return Latents(model, latents.x0, prompt_index)


@torch.no_grad()
def generate_per_prompt(
    model: EditableModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    num_inference_steps: int,
    guidance_scale: float,
    batch_size: int | None = None,
    progress: Progress | None = None,
    phase: str = "generating images",
) -> Latents:
    """Generates one latent for each pair of prompt and seed; ``prompt_index`` is 0, 1, 2, ...

    Args:
        model: the model that generates.
        prompts: one prompt an image.
        seeds: one seed an image.
        num_inference_steps: steps of the sampler.
        guidance_scale: classifier-free guidance scale.
        batch_size: images generated at the same time; the model's own batch size by default.
        progress: receives the number of finished images.
        phase: label of the progress bar.
    """
    progress, batch_size = progress or Silent(), batch_size or model.default_batch_size
    batches = []
    progress.start(phase, len(prompts), 0)
    try:
        for start in range(0, len(prompts), batch_size):
            rows = slice(start, start + batch_size)
            cond = model.encode(list(prompts[rows]))
            z = model.sample_latents(
                cond, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale, seeds=seeds[rows]
            )
            batches.append(z)
            progress.update(min(start + batch_size, len(prompts)), {})
    finally:
        progress.stop()
    return Latents(model, torch.cat(batches), torch.arange(len(prompts)))
