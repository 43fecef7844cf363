"""Stable Diffusion's architecture: one CLIP text encoder, a conditional UNet, an autoencoder. Pocket is loaded through it too."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor, nn
from torch.func import functional_call

from efface.core.errors import EffaceError
from efface.core.policy import check_prompts

from .base import Conditioning, Params, Prediction, Tokens, TrajectoryPoint
from .fingerprint import fingerprint
from .guidance import GuidanceEdit, Guide, GuidedStep
from .pipeline import default_device, load_pipeline
from .sites import Sites, select
from .soft import Soft, soft_tokens

Progress = Callable[[int], None]


class UNetModel:
    """A diffusers ``StableDiffusionPipeline`` behind the model protocol.

    Args:
        pipe: the pipeline; its components are used in place, never copied.
        name: what to call the model in results.
    """

    family = "sd1"

    def __init__(self, pipe: StableDiffusionPipeline, name: str) -> None:
        self.name = name
        self.pipe = pipe
        self.tokenizer, self.text_encoder, self.unet, self.vae = pipe.tokenizer, pipe.text_encoder, pipe.unet, pipe.vae
        self.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        self.components: dict[str, nn.Module] = {"text_encoder": self.text_encoder, "unet": self.unet, "vae": self.vae}
        self.guidance_edits: list[GuidanceEdit] = []
        for module in self.components.values():
            module.eval().requires_grad_(False)

    @classmethod
    def load(
        cls, folder: Path, name: str, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32,
        unet: Path | None = None,
    ) -> UNetModel:  # fmt: skip
        """Load a diffusers folder, with the denoiser of another folder where one is given; only safetensors are read."""
        return cls(load_pipeline(folder, dtype, unet).to(device or default_device()), name)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return torch.device(self.unet.device)

    @property
    def image_size(self) -> int:
        """Side of a picture in pixels."""
        return int(self.unet.config.sample_size * self.vae_factor)

    @property
    def timesteps(self) -> int:
        """How many noise levels the model was trained on."""
        return int(self.scheduler.config.num_train_timesteps)

    @property
    def vae_factor(self) -> int:
        """Pixels per latent cell and side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Prompts to tokens, padded to the context length; warns, and says what was cut, when a prompt is too long."""
        check_prompts(prompts)
        length = self.tokenizer.model_max_length
        full = self.tokenizer(list(prompts), truncation=False, verbose=False).input_ids
        for prompt, row in zip(prompts, full, strict=True):
            if len(row) > length:
                cut = self.tokenizer.decode(row[length - 1 : -1])
                warnings.warn(f"the prompt {prompt!r} is longer than {length - 2} tokens; cut off: {cut!r}", stacklevel=2)
        batch = self.tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        ids = batch.input_ids.to(self.device)
        eos = (ids == self.tokenizer.eos_token_id).int().argmax(-1)
        mask = (torch.arange(length, device=ids.device)[None] <= eos[:, None]).long()
        return Tokens(ids, mask, eos)

    def words(self) -> list[str]:
        """Every token of the vocabulary that ends a word, as text, sorted."""
        return sorted(token.removesuffix("</w>") for token in self.tokenizer.get_vocab() if token.endswith("</w>"))

    def detokenize(self, ids: Sequence[int]) -> str:
        """Token ids to text, as a user could type it."""
        return str(self.tokenizer.decode(list(ids))).strip()

    def encode(self, prompts: Sequence[str] | Tokens, *, soft: Tensor | Soft | None = None, params: Params | None = None) -> Conditioning:
        """Prompts to conditioning, differentiable.

        Args:
            prompts: texts, or tokens from :meth:`tokenize`, also fewer than the context is long.
            soft: embeddings ``(B, k, D)`` or ``(1, k, D)`` that go in right after BOS, so that the last k tokens are moved out of the
                context; or `Soft`, in place of the tokens that it names.
            params: tensors that stand in for the text encoder's own, by parameter name.
        """
        tokens = prompts if isinstance(prompts, Tokens) else self.tokenize(prompts)
        with soft_tokens(self.text_encoder, tokens.ids, soft) as ids:
            out = functional_call(self.text_encoder, dict(params or {}), (ids,))
        return Conditioning(out.last_hidden_state, out.pooler_output)

    def predict(self, z: Tensor, t: Tensor | int, cond: Conditioning, *, params: Params | None = None) -> Prediction:
        """One pass of the denoiser on latents ``(B, C, H, W)`` at timesteps ``t`` (``(B,)`` or one for all)."""
        steps = torch.as_tensor(t, device=z.device).expand(len(z))
        value = functional_call(self.unet, dict(params or {}), (z, steps, cond.states)).sample
        signal = self.scheduler.alphas_cumprod.to(z.device, z.dtype)[steps][:, None, None, None]
        return Prediction(value, self.scheduler.config.prediction_type, z, signal.sqrt(), (1 - signal).sqrt())

    def noised(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
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
        guide = Guide(self.guidance_edits)
        others = [self.encode([prompt] * len(seeds)) for prompt in ("", *guide.prompts)]
        every = Conditioning.cat([cond, *others])
        z = self.initial_noise(seeds)
        self.scheduler.set_timesteps(steps, device=self.device)
        for index, t in enumerate(self.scheduler.timesteps.tolist()):
            joint = self.predict(torch.cat([z] * (1 + len(others))), t, every, params=params)
            c, u, *extra = (_rows(joint, slice(start, start + len(z))) for start in range(0, len(joint.z), len(z)))
            yield TrajectoryPoint(z, t, c, u)
            guided = guide(GuidedStep(index, steps, t, guidance, c.value, u.value, tuple(p.value for p in extra)))
            z = self.scheduler.step(guided, t, z).prev_sample
        yield TrajectoryPoint(z, -1, c, u)

    def sites(self, role: str) -> Sites:
        """The parameters of a role, such as ``cross_kv`` (see `efface.models.sites`)."""
        return select(self.components, role)

    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """The fingerprint of every component (see `efface.models.fingerprint`)."""
        return {name: fingerprint(module) for name, module in self.components.items()}

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        steps: int = 20,
        guidance: float = 3.0,
        batch: int = 16,
        soft: Soft | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draw one picture for each prompt and seed.

        Args:
            prompts: texts; the empty one draws unconditionally.
            seeds: one a prompt. A picture depends on its own prompt and seed only, not on the batch it is drawn in.
            steps: DDIM steps.
            guidance: classifier-free guidance scale; 1 is none.
            batch: pictures drawn at once.
            soft: embeddings in place of some of the prompts' tokens, one row a prompt.
            progress: called with the number of pictures done after each batch.

        Returns:
            Pictures ``(N, 3, H, W)`` in [0, 1].
        """
        if len(prompts) != len(seeds):
            raise EffaceError(f"{len(prompts)} prompts but {len(seeds)} seeds; give one seed for each prompt")
        pictures = []
        for start in range(0, len(prompts), batch):
            part = slice(start, start + batch)
            cond = self.encode(prompts[part], soft=None if soft is None else soft[part])
            for point in self.trajectory(cond, steps=steps, guidance=guidance, seeds=seeds[part]):
                z = point.z
            pictures.append(self.decode(z).float().cpu())
            if progress:
                progress(len(pictures[-1]))
        return torch.cat(pictures)

    def decode(self, z: Tensor) -> Tensor:
        """Latents ``(B, C, h, w)`` to pictures ``(B, 3, H, W)`` in [0, 1]."""
        return (self.vae.decode(z / self.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)

    def encode_image(self, images: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in [0, 1] to latents (the posterior's mean)."""
        return self.vae.encode(images.to(self.device, self.vae.dtype) * 2 - 1).latent_dist.mean * self.vae.config.scaling_factor


def _rows(p: Prediction, rows: slice) -> Prediction:
    return Prediction(p.value[rows], p.kind, p.z[rows], p.alpha[rows], p.sigma[rows])
