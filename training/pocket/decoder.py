"""Stage ``decoder``: trains the autoencoder's decoder further with the encoder frozen.

The latents stay the same as in the denoiser's training; only the images become sharper. The loss is the autoencoder's
without its KL term.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from common import Checkpoint, device, random_scene, render, step_rng, to_tensor, train
from vae import gradient_l1


def run(out: Path, *, steps: int = 4000, batch: int = 16, lr: float = 1.5e-3, seed: int = 5) -> None:
    """Trains the decoder of ``out/vae`` further, in place."""
    torch.manual_seed(seed)
    dev = device()
    vae = AutoencoderKL.from_pretrained(out / "vae", dtype=torch.float32).to(dev).requires_grad_(False)
    trained = torch.nn.ModuleList([vae.decoder, vae.post_quant_conv]).requires_grad_(True)
    optimiser = torch.optim.AdamW(trained.parameters(), lr=lr, weight_decay=1e-4, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)

    def one_step(step: int) -> dict[str, float]:
        rng = step_rng(seed, step)
        x = to_tensor(render([random_scene(rng) for _ in range(batch)], rng)).to(dev) * 2 - 1
        with torch.no_grad():
            z = vae.encode(x).latent_dist.sample()
        with torch.autocast(dev.type, dtype=torch.bfloat16):
            y = vae.decode(z).sample.float()
        l1 = (y - x).abs().mean()
        loss = l1 + 0.5 * gradient_l1(y, x)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        return {"l1": l1.item(), "mse": (y - x).square().mean().item()}

    checkpoint = Checkpoint(out / "run" / "decoder", model=trained, optimiser=optimiser, schedule=schedule)
    train("decoder", steps, checkpoint, one_step)
    checkpoint.history.write(out / "run" / "decoder" / "log.json", steps=steps, batch=batch, seed=seed)
    vae.half().save_pretrained(out / "vae")
