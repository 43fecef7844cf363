"""Image tokens of a continuous autoencoder: each patch of 2 x 2 latents is replaced by its nearest code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FOLDER = "image_tokenizer"
"""Folder below a model's that holds autoencoder and codebook."""
PATCH = 2
"""Side of a patch in latents."""
CODEBOOK_FILE = "codebook.safetensors"
_CODES_AT_ONCE = 8192


class LatentImageTokenizer(nn.Module):
    """An autoencoder with a codebook; it takes the place of Janus's VQ-VAE.

    Args:
        vae: a diffusers ``AutoencoderKL``.
        codebook: the codes, patches of latents, ``(num_codes, PATCH * PATCH * latent_channels)``.
        side: number of tokens along one side of an image.
    """

    def __init__(self, vae: nn.Module, codebook: Tensor, side: int) -> None:
        super().__init__()
        self.vae: Any = vae
        self.side = side
        self.codebook = nn.Embedding.from_pretrained(codebook)

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return int(self.side * PATCH * 2 ** (len(self.vae.config.block_out_channels) - 1))

    @classmethod
    def load(cls, folder: Path, side: int) -> LatentImageTokenizer:
        """Loads ``folder/vae`` and the codebook beside it, in float32."""
        from diffusers import AutoencoderKL
        from safetensors.torch import load_file

        vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
        return cls(vae, load_file(folder / CODEBOOK_FILE)["codebook"].float(), side).eval().requires_grad_(False)

    def save(self, folder: Path) -> None:
        """Saves autoencoder and codebook in half precision."""
        from diffusers import AutoencoderKL
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        copy = AutoencoderKL.from_config(self.vae.config)
        copy.load_state_dict(self.vae.state_dict())
        copy.half().save_pretrained(folder / "vae")
        save_file({"codebook": self.codebook.weight.half().contiguous()}, folder / CODEBOOK_FILE)

    def patches(self, images: Tensor) -> Tensor:
        """Encodes images ``(B, 3, H, W)`` in [-1, 1] to patches of latents, ``(B, tokens, width of a code)``."""
        z = self.vae.encode(images.to(self.codebook.weight)).latent_dist.mean
        batch, channels, height, width = z.shape
        z = z.view(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
        return z.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * PATCH * PATCH)  # type: ignore[no-any-return]

    def nearest(self, patches: Tensor) -> Tensor:
        """Returns the index of the nearest code of each patch ``(..., width of a code)``."""
        codes = self.codebook.weight
        norms = codes.square().sum(-1)
        rows = patches.reshape(-1, codes.shape[-1]).split(_CODES_AT_ONCE)
        return torch.cat([(norms - 2 * part @ codes.T).argmin(-1) for part in rows]).view(patches.shape[:-1])

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """Encodes images ``(B, 3, H, W)`` in [-1, 1] to tokens, ``(B, tokens)``."""
        return self.nearest(self.patches(images))

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """Decodes tokens ``(B, tokens)`` to images in [-1, 1], ``(B, 3, H, W)``."""
        codes = self.codebook(tokens)
        batch, side = len(tokens), self.side
        z = codes.view(batch, side, side, -1, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
        return self.vae.decode(z.reshape(batch, -1, side * PATCH, side * PATCH)).sample  # type: ignore[no-any-return]
