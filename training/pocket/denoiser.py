"""Training of a denoiser on latents with a frozen text encoder: shared by the stages ``unet`` and ``sibling``.

Loss: min-SNR-5 weighted error of the predicted noise (Hang et al. 2023, arXiv 2303.09556). One caption in ten is empty,
for classifier-free guidance. The saved weights are an exponential moving average.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from common import EMPTY_SCENES, TRAIN_SCENES, Checkpoint, Ema, step_rng, train
from contrastive import CONTEXT, WIDTH
from efface.pocket_world import Scene, caption, load_world
from vae import LATENTS

CHANNELS = (32, 64, 128)
DROP_CAPTION = 0.1
TRAINING_STEPS = 1000
"""Number of noise levels of the scheduler."""


def build() -> UNet2DConditionModel:
    """Builds the untrained denoiser: Stable Diffusion's shape without attention at the top resolution."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENTS,
        out_channels=LATENTS,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def build_scheduler() -> DDIMScheduler:
    """Builds Stable Diffusion's scheduler: scaled linear betas, 1,000 steps, leading spacing, offset 1."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def training_scenes(limit: int | None = None) -> list[Scene]:
    """Returns the scenes of the training set, about one in thirty without an object; at most ``limit`` of them."""
    return (TRAIN_SCENES + EMPTY_SCENES * 2)[:limit]


def learning_rate_factor(step: int, steps: int, warmup_steps: int = 200, decay_share: float = 0.25) -> float:
    """Returns the learning rate relative to its maximum: warm-up, constant, linear decay over the last quarter.

    A run can be made longer until its decay begins.
    """
    return min(1.0, (step + 1) / warmup_steps, (steps - step) / (decay_share * steps))


@dataclass(frozen=True)
class FrozenText:
    """The frozen text encoder of the ``clip`` stage with its tokenizer."""

    tokenizer: CLIPTokenizer
    encoder: CLIPTextModel

    @classmethod
    def load(cls, out: Path, dev: torch.device) -> FrozenText:
        """Loads both from the stages' folder."""
        tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
        encoder = CLIPTextModel.from_pretrained(out / "text_encoder", dtype=torch.float32).to(dev)
        return cls(tokenizer, encoder.eval().requires_grad_(False))

    @torch.no_grad()
    def sample_states(self, scenes: list[Scene], rng: np.random.Generator) -> Tensor:
        """Samples a caption of every scene, or the empty caption, and returns their states ``(B, L, D)``."""
        world = load_world()
        texts = ["" if rng.random() < DROP_CAPTION else caption(world, scene, rng) for scene in scenes]
        tokens = self.tokenizer(
            texts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
        ).input_ids
        return self.encoder(tokens.to(self.encoder.device)).last_hidden_state


def min_snr_loss(
    predict: Callable[..., Any], latents: Tensor, states: Tensor, alphas: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns the min-SNR-5 loss and the unweighted mean error of the predicted noise, at random noise levels."""
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    timesteps = torch.randint(0, TRAINING_STEPS, (len(latents),), generator=generator).to(latents.device)
    alpha = alphas[timesteps][:, None, None, None]
    predicted = predict(alpha.sqrt() * latents + (1 - alpha).sqrt() * noise, timesteps, states).sample
    error = (predicted - noise).square().mean(dim=(1, 2, 3))
    snr = (alpha / (1 - alpha)).flatten()
    return (error * snr.clamp(max=5) / snr).mean(), error.mean()


@dataclass(frozen=True)
class DenoiserTraining:
    """One stage that trains a denoiser.

    Attributes:
        name: name of the stage and of its run's folder.
        steps: number of training steps.
        batch: number of images in a step.
        lr: maximum learning rate.
        seed: seed of the stage.
        warmup_steps: number of steps over which the learning rate rises.
        sample_latents: function from row numbers ``(B,)`` and a generator to latents ``(B, 4, 16, 16)``.
        num_latents: number of rows to sample from; row i belongs to scene ``i % len(scenes)``.
    """

    name: str
    steps: int
    batch: int
    lr: float
    seed: int
    warmup_steps: int
    sample_latents: Callable[[Tensor, torch.Generator], Tensor]
    num_latents: int

    def run(
        self,
        out: Path,
        unet: UNet2DConditionModel,
        text: FrozenText,
        scenes: list[Scene],
        ema: Ema,
        save: Callable[[], None],
        predict: Callable[..., Any],
    ) -> None:
        """Trains the denoiser; saves after every checkpoint and writes the log."""
        optimiser = torch.optim.AdamW(unet.parameters(), lr=self.lr, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
        alphas = build_scheduler().alphas_cumprod.to(unet.device)

        def one_step(step: int) -> dict[str, float]:
            rng = step_rng(self.seed, 10**6 + step)
            rows = rng.integers(self.num_latents, size=self.batch)
            states = text.sample_states([scenes[row % len(scenes)] for row in rows], rng)
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            latents = self.sample_latents(torch.from_numpy(rows), generator).to(unet.device)
            loss, error = min_snr_loss(predict, latents, states, alphas, generator)
            for group in optimiser.param_groups:
                group["lr"] = self.lr * learning_rate_factor(step, self.steps, self.warmup_steps)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimiser.step()
            ema.update(unet, step)
            return {"loss": loss.item(), "mse": error.item()}

        folder = out / "run" / self.name
        checkpoint = Checkpoint(folder, model=unet, ema=ema, optimiser=optimiser)
        train(self.name, self.steps, checkpoint, one_step, at_checkpoint=save)
        checkpoint.history.write(folder / "log.json", steps=self.steps, batch=self.batch, seed=self.seed)


def averaged_unet(ema: Ema) -> UNet2DConditionModel:
    """Returns the denoiser with the averaged weights in half precision."""
    averaged = build()
    averaged.load_state_dict(ema.state_dict())
    return averaged.half()
