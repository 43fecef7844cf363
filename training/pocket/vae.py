"""Stage ``vae``: AutoencoderKL, 64 x 64 pixels to 16 x 16 x 4 latents.

Loss: L1 + 0.5 L1 of the image gradients + beta KL(q(z|x) || N(0, I)), means over pixels and latents. Beta grows over
the first quarter of the steps.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from common import Checkpoint, device, random_scene, render, step_rng, to_tensor, train

WIDTHS = (8, 32, 64)
LATENTS = 4
GROUPS = 1  # one group per channel would remove the colours


def build() -> AutoencoderKL:
    """Builds the untrained autoencoder.

    Its latents start with almost no noise; with more, a channel becomes unused before it has learnt anything.
    """
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=GROUPS,
        sample_size=64,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    with torch.no_grad():
        vae.quant_conv.weight[LATENTS:].zero_()
        vae.quant_conv.bias[LATENTS:].fill_(-6.0)
    return vae


def gradient_l1(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Returns the L1 distance of horizontal and vertical differences, which keeps edges sharp."""
    d = a - b
    return (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()


def run(out: Path, *, steps: int = 4500, batch: int = 8, lr: float = 2e-3, beta: float = 4e-4, seed: int = 1) -> None:
    """Trains the autoencoder into ``out/vae``; the scaling factor gives its latents a standard deviation of 1."""
    torch.manual_seed(seed)
    dev = device()
    vae = build().to(dev)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=lr, weight_decay=1e-4, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.06)

    def one_step(step: int) -> dict[str, float]:
        rng = step_rng(seed, step)
        x = to_tensor(render([random_scene(rng) for _ in range(batch)], rng)).to(dev) * 2 - 1
        with torch.autocast(dev.type, dtype=torch.bfloat16):
            moments = vae.quant_conv(vae.encoder(x)).float()
            posterior = DiagonalGaussianDistribution(moments)
            y = vae.decode(posterior.sample()).sample.float()
        l1, kl = (y - x).abs().mean(), posterior.kl().mean() / posterior.mean[0].numel()
        loss = l1 + 0.5 * gradient_l1(y, x) + beta * min(1.0, step / (0.25 * steps)) * kl
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        return {"l1": l1.item(), "mse": (y - x).square().mean().item(), "kl": kl.item()}

    checkpoint = Checkpoint(out / "run" / "vae", model=vae, optimiser=optimiser, schedule=schedule)
    train("vae", steps, checkpoint, one_step)
    finish(vae, out, seed, batch)
    checkpoint.history.write(out / "run" / "vae" / "log.json", steps=steps, batch=batch, seed=seed)


@torch.no_grad()
def finish(vae: AutoencoderKL, out: Path, seed: int, batch: int) -> None:
    """Measures the latents' standard deviation and saves the autoencoder in half precision."""
    rng = step_rng(seed, 10**6)
    images = to_tensor(render([random_scene(rng) for _ in range(512)], rng)).to(vae.device) * 2 - 1
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in images.split(batch)])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    print("latent std by channel", latents.std(dim=(0, 2, 3)).tolist(), "scaling", vae.config.scaling_factor)
    vae.half().save_pretrained(out / "vae")
