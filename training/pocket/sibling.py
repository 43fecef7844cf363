"""Stage ``sibling``: trains pocket's denoiser further on another rendering of the same scenes; keeps the text encoder.

The other rendering is brighter, warmer and slightly blurred. The sibling shares pocket's text encoder, so it shows
whether an erasure in the text encoder transfers to another model.
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

from common import Ema, device, step_rng, to_tensor
from denoiser import DenoiserTraining, FrozenText, averaged_unet, build, training_scenes
from efface.pocket_world import Scene
from efface.pocket_world.scenes import draw_scene

WARM = np.array([1.0, 0.98, 0.95], dtype=np.float32)
GAMMA, BLUR = 0.8, 0.7


def draw_sibling(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draws a scene brighter, warmer and slightly blurred, ``(64, 64, 3)``; the judge can still read it."""
    blurred = Image.fromarray(draw_scene(scene, rng)).filter(ImageFilter.GaussianBlur(BLUR))
    image = (np.asarray(blurred, dtype=np.float32) / 255) ** GAMMA * WARM
    return np.asarray(np.clip(image * 255 + 0.5, 0, 255), dtype=np.uint8)


@torch.no_grad()
def encode_scenes(vae: AutoencoderKL, scenes: list[Scene], copies: int, seed: int, dev: torch.device) -> Tensor:
    """Returns latents of the scenes, ``(copies * N, 4, 16, 16)``, copy by copy."""
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
    """Trains ``out/unet`` further and saves the result in ``out/sibling/unet``.

    Args:
        out: folder of the stages.
        steps: number of training steps.
        batch: number of images in a step.
        lr: maximum learning rate.
        copies: number of renderings of each scene.
        seed: seed of the stage.
        limit: maximum number of scenes.
    """
    torch.manual_seed(seed)
    dev, scenes = device(), training_scenes(limit)
    text = FrozenText.load(out, dev)
    vae = AutoencoderKL.from_pretrained(out / "vae", dtype=torch.float32).to(dev)
    latents = encode_scenes(vae, scenes, copies, seed, dev)
    unet = build().to(dev)
    unet.load_state_dict(UNet2DConditionModel.from_pretrained(out / "unet", dtype=torch.float32).state_dict())
    ema = Ema(unet, 0.995)

    def save() -> None:
        averaged_unet(ema).save_pretrained(out / "sibling" / "unet")

    training = DenoiserTraining("sibling", steps, batch, lr, seed, 50, lambda rows, _: latents[rows], len(latents))
    training.run(out, unet, text, scenes, ema, save, unet)
