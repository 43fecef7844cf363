"""Stage ``image_prompt``: trains the projection of CLIP image embeddings to tokens that the denoiser reads as a prompt.

The tokens are those of IP-Adapter (Ye et al. 2023, arXiv 2308.06721), but follow the states of the caption: the frozen
denoiser reads them with its own cross-attention. Half of the captions are empty: the tokens alone describe the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.embeddings import ImageProjection
from safetensors.torch import save_file
from torch import Tensor

from common import WORLD, Checkpoint, device, random_scene, render, save_json, step_rng, to_tensor, train
from contrastive import CONTEXT, PROJECTION, WIDTH
from denoiser import FrozenText, build_scheduler, learning_rate_factor, min_snr_loss
from efface.detectors.pocket_clip import PocketClipScore
from efface.pocket_world import Scene, caption

NUM_TOKENS = 4
EMPTY_CAPTIONS = 0.5


@torch.no_grad()
def text_states(text: FrozenText, scenes: list[Scene], rng: Any) -> Tensor:
    """Returns the states of a caption of every scene, or of the empty caption, ``(B, L, D)``."""
    texts = ["" if rng.random() < EMPTY_CAPTIONS else caption(WORLD, scene, rng) for scene in scenes]
    settings = {"padding": "max_length", "max_length": CONTEXT, "truncation": True, "return_tensors": "pt"}
    tokens = text.tokenizer(texts, **settings).input_ids
    states: Tensor = text.encoder(tokens.to(text.encoder.device)).last_hidden_state
    return states


def run(out: Path, *, steps: int = 500, batch: int = 16, lr: float = 3e-3, seed: int = 12) -> None:
    """Trains ``out/image_prompt`` with the frozen towers, autoencoder and denoiser of the earlier stages."""
    torch.manual_seed(seed)
    dev = device()
    text, clip = FrozenText.load(out, dev), PocketClipScore.load(out, dev)
    vae = AutoencoderKL.from_pretrained(out / "vae", dtype=torch.float32).to(dev).requires_grad_(False)
    unet = UNet2DConditionModel.from_pretrained(out / "unet", dtype=torch.float32).to(dev).requires_grad_(False)
    projection = ImageProjection(PROJECTION, WIDTH, NUM_TOKENS).to(dev)
    optimiser = torch.optim.AdamW(projection.parameters(), lr=lr, weight_decay=0.01)
    alphas = build_scheduler().alphas_cumprod.to(dev)

    def one_step(step: int) -> dict[str, float]:
        rng = step_rng(seed, step)
        scenes = [random_scene(rng) for _ in range(batch)]
        images = to_tensor(render(scenes, rng)).to(dev)
        with torch.no_grad():
            latents = vae.encode(images * 2 - 1).latent_dist.mean * vae.config.scaling_factor
            features, states = clip.image_features(images), text_states(text, scenes, rng)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        prompt = torch.cat([states, projection(features)], dim=1)
        loss, error = min_snr_loss(unet, latents, prompt, alphas, generator)
        for group in optimiser.param_groups:
            group["lr"] = lr * learning_rate_factor(step, steps, 50)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return {"loss": loss.item(), "mse": error.item()}

    def save() -> None:
        folder = out / "image_prompt"
        folder.mkdir(exist_ok=True)
        save_file(projection.state_dict(), folder / "model.safetensors")
        save_json(folder / "config.json", {"image_width": PROJECTION, "text_width": WIDTH, "num_tokens": NUM_TOKENS})

    folder = out / "run" / "image_prompt"
    checkpoint = Checkpoint(folder, model=projection, optimiser=optimiser)
    train("image_prompt", steps, checkpoint, one_step, at_checkpoint=save, every=100)
    checkpoint.history.write(folder / "log.json", steps=steps, batch=batch, seed=seed)
