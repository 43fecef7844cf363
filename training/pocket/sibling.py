"""Stage ``sibling``: pocket's denoiser, trained further on another rendering of the same world; the text encoder stays as it is.

The other rendering is brighter, warmer and a little out of focus. What is erased from the text encoder of one can so be tried on another
model that shares it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from rich.progress import track
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from common import Checkpoint, Ema, device, step_rng, to_tensor, train
from contrastive import CONTEXT
from efface.pocket_world import Scene, caption, load_world
from scenes import draw_scene
from unet import DROP_CAPTION, build, build_scheduler, corpus, learning_rate

WARM = np.array([1.0, 0.98, 0.95], dtype=np.float32)
GAMMA, BLUR = 0.8, 0.7


def draw_sibling(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A scene as the sibling knows it: brighter, warmer and a little out of focus. The judge still reads it."""
    blurred = Image.fromarray(draw_scene(scene, rng)).filter(ImageFilter.GaussianBlur(BLUR))
    image = (np.asarray(blurred, dtype=np.float32) / 255) ** GAMMA * WARM
    return np.asarray(np.clip(image * 255 + 0.5, 0, 255), dtype=np.uint8)


@torch.no_grad()
def latents(vae: AutoencoderKL, scenes: list[Scene], copies: int, seed: int, dev: torch.device) -> Tensor:
    """Latents ``(copies * N, 4, 16, 16)`` of the scenes, copy by copy."""
    parts = []
    for copy in track(range(copies), description="rendering and encoding"):
        rng = step_rng(seed, copy)
        for start in range(0, len(scenes), 128):
            images = np.stack([draw_sibling(scene, rng) for scene in scenes[start : start + 128]])
            posterior = vae.encode(to_tensor(images).to(dev) * 2 - 1).latent_dist
            parts.append((posterior.mean * vae.config.scaling_factor).cpu())
    return torch.cat(parts)


def run(
    out: Path,
    *,
    steps: int = 1200,
    batch: int = 48,
    lr: float = 6e-4,
    copies: int = 4,
    seed: int = 11,
    limit: int | None = None,
) -> None:
    """Train ``out/unet`` further into ``out/sibling/unet`` (averaged weights, half precision); ``limit`` uses that many scenes."""
    torch.manual_seed(seed)
    dev, world, scenes = device(), load_world(), corpus(limit)
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    text = CLIPTextModel.from_pretrained(out / "text_encoder", dtype=torch.float32).to(dev).eval().requires_grad_(False)
    vae = AutoencoderKL.from_pretrained(out / "vae", dtype=torch.float32).to(dev)
    clean = latents(vae, scenes, copies, seed, dev)
    unet = build().to(dev)
    unet.load_state_dict(UNet2DConditionModel.from_pretrained(out / "unet", dtype=torch.float32).state_dict())
    ema = Ema(unet, 0.995)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=lr, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    alphas = build_scheduler().alphas_cumprod.to(dev)

    def one_step(step: int) -> dict[str, float]:
        rng = step_rng(seed, 10**6 + step)
        picks = rng.integers(len(clean), size=batch)
        texts = ["" if rng.random() < DROP_CAPTION else caption(world, scenes[p % len(scenes)], rng) for p in picks]
        ids = tokenizer(
            texts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
        ).input_ids.to(dev)
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        z0 = clean[torch.from_numpy(picks)].to(dev)
        eps = torch.randn(z0.shape, generator=noise).to(dev)
        t = torch.randint(0, 1000, (batch,), generator=noise).to(dev)
        a = alphas[t][:, None, None, None]
        with torch.no_grad():
            states = text(ids).last_hidden_state
        error = (unet(a.sqrt() * z0 + (1 - a).sqrt() * eps, t, states).sample - eps).square().mean(dim=(1, 2, 3))
        snr = (a / (1 - a)).flatten()
        loss = (error * snr.clamp(max=5) / snr).mean()
        for group in optimiser.param_groups:
            group["lr"] = lr * learning_rate(step, steps, warm=50)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        ema.update(unet, step)
        return {"loss": loss.item()}

    def save() -> None:
        averaged = build()
        averaged.load_state_dict(ema.state_dict())
        averaged.half().save_pretrained(out / "sibling" / "unet")

    checkpoint = Checkpoint(out / "run" / "sibling", model=unet, ema=ema, optimiser=optimiser)
    train("sibling", steps, checkpoint, one_step, at_checkpoint=save)
    checkpoint.history.write(out / "run" / "sibling" / "log.json", steps=steps, batch=batch, seed=seed)
