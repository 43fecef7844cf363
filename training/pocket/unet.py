"""Stage ``unet``: the denoiser, a UNet2DConditionModel with noise prediction, on latents of renderings.

See ``denoiser.py`` for the loss and the saved weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from rich.progress import track
from torch import Tensor

from common import Ema, device, render, save_json, step_rng, to_tensor
from denoiser import DenoiserTraining, FrozenText, averaged_unet, build, build_scheduler, training_scenes
from efface.pocket_world import Scene


@torch.no_grad()
def encode_scenes(out: Path, dev: torch.device, scenes: list[Scene], copies: int, seed: int) -> tuple[Tensor, Tensor]:
    """Renders each scene ``copies`` times and encodes the images.

    Caches the latents in the run's folder.

    Returns:
        Means and standard deviations of the latents, each ``(N, 4, 16, 16)``, copy by copy.
    """
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
    """Trains the denoiser into ``out/unet`` and writes its scheduler.

    Args:
        out: folder of the stages.
        steps: number of training steps.
        batch: number of images in a step.
        lr: maximum learning rate.
        copies: number of renderings of each scene.
        seed: seed of the stage.
        compiled: whether to compile the denoiser.
        limit: maximum number of scenes.
    """
    torch.manual_seed(seed)
    dev = device()
    text = FrozenText.load(out, dev)
    scenes = training_scenes(limit)
    mean, std = encode_scenes(out, dev, scenes, copies, seed)
    unet = build().to(dev)
    ema = Ema(unet, 0.998)

    def sample_latents(rows: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(rows), *mean.shape[1:], generator=generator)
        return mean[rows].float() + std[rows].float() * noise

    training = DenoiserTraining("unet", steps, batch, lr, seed, 200, sample_latents, len(mean))
    predict = torch.compile(unet) if compiled else unet
    training.run(out, unet, text, scenes, ema, lambda: save(ema, out), predict)


def save(ema: Ema, out: Path) -> None:
    """Saves the averaged denoiser, the scheduler, and the index that makes the folder a StableDiffusionPipeline."""
    averaged_unet(ema).save_pretrained(out / "unet")
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
