"""Gaussian blur of latents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from efface.core.errors import EffaceError


def gaussian_blur(z: Tensor, kernel_size: int) -> Tensor:
    """Blurs latents ``(B, C, H, W)`` channel by channel, with reflected borders.

    Args:
        z: the latents.
        kernel_size: odd side of the kernel; 0 or 1 changes nothing. Its standard deviation is 0.15 (side - 1) + 0.5.

    Raises:
        EffaceError: an even or negative size, or one above the latents' own.
    """
    if kernel_size in (0, 1):
        return z
    if kernel_size < 0 or kernel_size % 2 == 0 or kernel_size // 2 >= min(z.shape[-2:]):
        raise EffaceError(f"a blur of {kernel_size} latent pixels is impossible: set an odd number such as 3, or 0")
    deviation = 0.15 * (kernel_size - 1) + 0.5
    offsets = torch.arange(kernel_size, device=z.device, dtype=torch.float32) - kernel_size // 2
    weights = torch.softmax(-(offsets**2) / (2 * deviation**2), dim=0).to(z.dtype)
    radius, channels = kernel_size // 2, z.shape[1]
    padded = pad(z, (radius,) * 4, mode="reflect")
    rows = conv2d(padded, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return conv2d(rows, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
