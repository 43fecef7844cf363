"""Stable Diffusion's architecture, 1.x, 2.x and XL: CLIP text encoders, a conditional UNet, an autoencoder. Pocket is one, too.

One adapter for all: they differ in the number of text encoders (`efface.models.text`), in what the UNet predicts, epsilon or velocity
(`Prediction` converts), and in SDXL's conditions beside the text, the pooled state and the size that an image is to have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from efface.core.errors import EffaceError

from .fingerprint import fingerprint
from .guidance_hooks import GuidanceChain, GuidanceEdit, GuidedStep
from .memory import oom_as_user_error
from .parameter_groups import TEXT_ENCODER_2, ParameterGroup, select_parameters
from .pipeline import default_device, family_of, load_pipeline, validate_pipeline
from .protocol import Conditioning, Params, Prediction, TrajectoryPoint
from .scheduler import ddim
from .soft_prompt import SoftTokens
from .text import PromptEncoder, TextEncoder, check_same_vocabulary

Progress = Callable[[int], None]


class StableDiffusionModel(PromptEncoder):
    """A diffusers ``StableDiffusionPipeline`` or ``StableDiffusionXLPipeline`` behind the model protocol.

    Args:
        pipe: the pipeline; its components are used in place, never copied.
        name: what to call the model in results.

    Raises:
        EffaceError: another pipeline, one that lacks a component, or one of several precisions.
    """

    def __init__(self, pipe: Any, name: str) -> None:
        self.name = name
        self.pipe = validate_pipeline(pipe)
        self.family = family_of(pipe)
        self.tokenizer, self.text_encoder, self.unet, self.vae = pipe.tokenizer, pipe.text_encoder, pipe.unet, pipe.vae
        second = (TextEncoder(TEXT_ENCODER_2, pipe.tokenizer_2, pipe.text_encoder_2),) if self.family == "sdxl" else ()
        self.encoders = check_same_vocabulary((TextEncoder("text_encoder", pipe.tokenizer, pipe.text_encoder), *second))
        self.scheduler = ddim(pipe.scheduler)
        self.components: dict[str, nn.Module] = {encoder.component: encoder.module for encoder in self.encoders}
        self.components |= {"unet": self.unet, "vae": self.vae}
        self.guidance_edits: list[GuidanceEdit] = []
        for module in self.components.values():
            module.eval().requires_grad_(False)

    @classmethod
    def load(
        cls, folder: Path, name: str, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32,
        unet: Path | None = None,
    ) -> StableDiffusionModel:  # fmt: skip
        """Load a diffusers folder, with the denoiser of another folder where one is given; only safetensors are read."""
        return cls(load_pipeline(folder, dtype, unet).to(device or default_device()), name)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return torch.device(self.unet.device)

    @property
    def image_size(self) -> int:
        """Side of an image in pixels."""
        return int(self.unet.config.sample_size * self.vae_factor)

    @property
    def timesteps(self) -> int:
        """How many noise levels the model was trained on."""
        return int(self.scheduler.config.num_train_timesteps)

    @property
    def vae_factor(self) -> int:
        """Pixels per latent cell and side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def batch(self) -> int:
        """How many images to draw at once where nobody says: 16 small ones, two of 1024 pixels a side."""
        return max(1, min(16, 2**21 // self.image_size**2))

    def unconditional(self, count: int) -> Conditioning:
        """What guidance starts from: the empty prompt's conditioning, or zeros where the pipeline is made so (SDXL), ``count`` times."""
        empty = self.encode([""] * count)
        if not self.pipe.config.get("force_zeros_for_empty_prompt", False):
            return empty
        return Conditioning(torch.zeros_like(empty.states), torch.zeros_like(empty.pooled))

    def predict(self, z: Tensor, t: Tensor | int, cond: Conditioning, *, params: Params | None = None) -> Prediction:
        """One pass of the denoiser on latents ``(B, C, H, W)`` at timesteps ``t`` (``(B,)`` or one for all)."""
        steps = torch.as_tensor(t, device=z.device).expand(len(z))
        more = {"added_cond_kwargs": self._beside_text(z, cond)} if self.family == "sdxl" else {}
        value = functional_call(self.unet, dict(params or {}), (z, steps, cond.states), more).sample
        signal = self.scheduler.alphas_cumprod.to(z.device)[steps][:, None, None, None]
        return Prediction(
            value, self.scheduler.config.prediction_type, z, signal.sqrt().to(z.dtype), (1 - signal).sqrt().to(z.dtype)
        )

    def _beside_text(self, z: Tensor, cond: Conditioning) -> dict[str, Tensor]:
        """SDXL's other conditions: the pooled state, and original size, crop's corner and target size, the whole image as it is."""
        height, width = (side * self.vae_factor for side in z.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=z.device, dtype=cond.states.dtype)
        return {"text_embeds": cond.pooled, "time_ids": sizes.expand(len(z), -1)}

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Clean latents ``(B, C, H, W)`` with noise at timesteps ``(B,)``: alpha_t x0 + sigma_t noise."""
        return self.scheduler.add_noise(clean, noise, t)

    def initial_noise(self, seeds: Sequence[int]) -> Tensor:
        """The latents that sampling starts from: one generator a seed, so that batching changes nothing."""
        side = self.unet.config.sample_size
        shape = (self.unet.config.in_channels, side, side)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(rows).to(self.device, self.unet.dtype) * self.scheduler.init_noise_sigma

    @torch.no_grad()
    def trajectory(
        self, cond: Conditioning, *, steps: int, guidance: float, seeds: Sequence[int], params: Params | None = None
    ) -> Iterator[TrajectoryPoint]:
        """Sample with DDIM and classifier-free guidance; yields every step before it is taken, and at last the clean latent (t = -1).

        The guidance goes through `guidance_edits`; ``params`` stands in for the denoiser's own tensors.
        """
        guide = GuidanceChain(self.guidance_edits)
        others = [self.unconditional(len(seeds)), *(self.encode([prompt] * len(seeds)) for prompt in guide.prompts)]
        every = Conditioning.cat([cond, *others])
        z = self.initial_noise(seeds)
        self.scheduler.set_timesteps(steps, device=self.device)
        for index, t in enumerate(self.scheduler.timesteps.tolist()):
            joint = self.predict(torch.cat([z] * (1 + len(others))), t, every, params=params)
            c, u, *extra = (joint[start : start + len(z)] for start in range(0, len(joint.z), len(z)))
            yield TrajectoryPoint(z, t, c, u)
            guided = guide(GuidedStep(index, steps, t, guidance, c.value, u.value, tuple(p.value for p in extra)))
            z = self.scheduler.step(guided, t, z).prev_sample
        yield TrajectoryPoint(z, -1, c, u)

    def parameter_group(self, role: str) -> ParameterGroup:
        """The parameters of a role, such as ``cross_kv`` (see `efface.models.parameter_groups`)."""
        return select_parameters(self.components, role, [encoder.component for encoder in self.encoders[:-1]])

    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """The fingerprint of every component (see `efface.models.fingerprint`)."""
        return {name: fingerprint(module) for name, module in self.components.items()}

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
        batch_size: int | None = None,
        soft: SoftTokens | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draw one image for each prompt and seed.

        Args:
            prompts: texts; the empty one draws unconditionally.
            seeds: one a prompt. An image depends on its own prompt and seed only, not on the batch it is drawn in.
            steps: DDIM steps.
            guidance: classifier-free guidance scale; 1 is none.
            batch: images drawn at once; `batch` by default.
            soft: embeddings in place of some of the prompts' tokens, one row a prompt.
            progress: called with the number of images done after each batch.

        Returns:
            Images ``(N, 3, H, W)`` in [0, 1].
        """
        if len(prompts) != len(seeds):
            raise EffaceError(f"{len(prompts)} prompts but {len(seeds)} seeds; give one seed for each prompt")
        images, batch_size = [], batch_size or self.batch
        for start in range(0, len(prompts), batch_size):
            part = slice(start, start + batch_size)
            with oom_as_user_error(
                f"{len(prompts[part])} images at once are too many: lower batch, or choose a smaller dtype"
            ):
                cond = self.encode(prompts[part], soft=None if soft is None else soft[part])
                for point in self.trajectory(
                    cond, steps=num_inference_steps, guidance=guidance_scale, seeds=seeds[part]
                ):
                    z = point.z
                images.append(self.decode(z).float().cpu())
            if progress:
                progress(len(images[-1]))
        return torch.cat(images)

    def decode(self, z: Tensor) -> Tensor:
        """Latents ``(B, C, h, w)`` to images ``(B, 3, H, W)`` in [0, 1]."""
        return (self.vae.decode((z / self.vae.config.scaling_factor).to(self.vae.dtype)).sample / 2 + 0.5).clamp(0, 1)

    def encode_image(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)`` in [0, 1] to latents (the posterior's mean)."""
        latents = self.vae.encode(images.to(self.device, self.vae.dtype) * 2 - 1).latent_dist.mean
        return (latents * self.vae.config.scaling_factor).to(self.unet.dtype)
