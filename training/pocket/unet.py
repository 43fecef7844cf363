"""Stage ``unet``: UNet2DConditionModel, epsilon prediction, on latents of renderings with the frozen text encoder.

Loss: min-SNR-5 weighted error of the predicted noise (Hang et al. 2023, arXiv 2303.09556); one caption in ten is empty, for
guidance. What is kept is the exponential moving average of the weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from rich.progress import track
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from common import EMPTY_SCENES, TRAIN_SCENES, Checkpoint, Ema, device, render, save_json, step_rng, to_tensor, train
from contrastive import CONTEXT, WIDTH
from efface.pocket_world import Scene, caption, load_world
from vae import LATENTS

CHANNELS = (32, 64, 128)
DROP_CAPTION = 0.1


def build() -> UNet2DConditionModel:
    """The untrained denoiser, in Stable Diffusion's shape without attention at the top resolution."""
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
    """Stable Diffusion's schedule: scaled linear betas, 1,000 steps, leading spacing, offset 1."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def corpus(limit: int | None = None) -> list[Scene]:
    """Every combination that may be rendered, and scenes without an object (about one in thirty); the first ``limit`` of them."""
    return (TRAIN_SCENES + EMPTY_SCENES * 2)[:limit]


@torch.no_grad()
def latents(out: Path, dev: torch.device, scenes: list[Scene], copies: int, seed: int) -> tuple[Tensor, Tensor]:
    """Means and deviations ``(N, 4, 16, 16)`` of the latents of ``copies`` renderings of each scene; cached in the run's folder."""
    path = out / "run" / "latents.pt"
    if path.exists():
        stored = torch.load(path, weights_only=True)
        return stored["mean"], stored["std"]
    vae = AutoencoderKL.from_pretrained(out / "vae", dtype=torch.float32).to(dev)
    means, stds = [], []
    for copy in track(range(copies), description="rendering and encoding"):
        rng = step_rng(seed, copy)
        for start in range(0, len(scenes), 128):
            images = to_tensor(render(scenes[start : start + 128], rng)).to(dev) * 2 - 1
            posterior = vae.encode(images).latent_dist
            means.append((posterior.mean * vae.config.scaling_factor).half().cpu())
            stds.append((posterior.std * vae.config.scaling_factor).half().cpu())
    mean, std = torch.cat(means), torch.cat(stds)
    torch.save({"mean": mean, "std": std}, path)
    return mean, std


def learning_rate(step: int, steps: int, warm: int = 200, cool: float = 0.25) -> float:
    """Warm-up, constant, linear decay over the last quarter: a run can be made longer until the decay begins."""
    return min(1.0, (step + 1) / warm, (steps - step) / (cool * steps))


def run(
    out: Path,
    *,
    steps: int = 9000,
    batch: int = 64,
    lr: float = 1.5e-3,
    copies: int = 24,
    seed: int = 3,
    compiled: bool = True,
    limit: int | None = None,
) -> None:
    """Train the denoiser into ``out/unet`` (the averaged weights, half precision) with its scheduler; ``limit`` uses that many scenes."""
    torch.manual_seed(seed)
    dev, world = device(), load_world()
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    text = CLIPTextModel.from_pretrained(out / "text_encoder", dtype=torch.float32).to(dev).eval().requires_grad_(False)
    scenes = corpus(limit)
    mean, std = latents(out, dev, scenes, copies, seed)
    unet = build().to(dev)
    ema = Ema(unet, 0.998)
    predict = torch.compile(unet) if compiled else unet
    optimiser = torch.optim.AdamW(unet.parameters(), lr=lr, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    scheduler = build_scheduler()
    alphas = scheduler.alphas_cumprod.to(dev)

    def one_step(step: int) -> dict[str, float]:
        rng = step_rng(seed, 10**6 + step)
        picks = rng.integers(len(mean), size=batch)
        texts = ["" if rng.random() < DROP_CAPTION else caption(world, scenes[p % len(scenes)], rng) for p in picks]
        ids = tokenizer(
            texts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
        ).input_ids.to(dev)
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        rows = torch.from_numpy(picks)
        z0 = (mean[rows].float() + std[rows].float() * torch.randn(batch, *mean.shape[1:], generator=noise)).to(dev)
        eps = torch.randn(z0.shape, generator=noise).to(dev)
        t = torch.randint(0, 1000, (batch,), generator=noise).to(dev)
        a = alphas[t][:, None, None, None]
        with torch.no_grad():
            states = text(ids).last_hidden_state
        predicted = predict(a.sqrt() * z0 + (1 - a).sqrt() * eps, t, states).sample
        error = (predicted - eps).square().mean(dim=(1, 2, 3))
        snr = (a / (1 - a)).flatten()
        loss = (error * snr.clamp(max=5) / snr).mean()
        for group in optimiser.param_groups:
            group["lr"] = lr * learning_rate(step, steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        ema.update(unet, step)
        return {"loss": loss.item(), "mse": error.mean().item()}

    checkpoint = Checkpoint(out / "run" / "unet", model=unet, ema=ema, optimiser=optimiser)
    train("unet", steps, checkpoint, one_step, at_checkpoint=lambda: save(ema, out))
    checkpoint.history.write(out / "run" / "unet" / "log.json", steps=steps, batch=batch, seed=seed)


def save(ema: Ema, out: Path) -> None:
    """The averaged denoiser in half precision, the scheduler, and what makes the folder a StableDiffusionPipeline."""
    averaged = build()
    averaged.load_state_dict(ema.state_dict())
    averaged.half().save_pretrained(out / "unet")
    build_scheduler().save_pretrained(out / "scheduler")
    save_json(
        out / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "_diffusers_version": "0.42.1",
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
