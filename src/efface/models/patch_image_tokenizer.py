"""Image tokens of a small model: each patch of pixels is replaced by its nearest code."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

FOLDER = "image_tokenizer"
"""Folder below a model's that holds the codebook."""
CODEBOOK_FILE = "codebook.safetensors"
_CHANNELS = 3
_PATCHES_AT_ONCE = 8192


class PatchImageTokenizer(nn.Module):
    """A codebook of patches of pixels; it takes the place of Janus's VQ-VAE.

    Args:
        codebook: square patches of pixels in [-1, 1], ``(num_codes, 3 * patch * patch)``.
        side: number of tokens along one side of an image.
    """

    def __init__(self, codebook: Tensor, side: int) -> None:
        super().__init__()
        self.side = side
        self.patch = round((codebook.shape[1] / _CHANNELS) ** 0.5)
        self.codebook = nn.Embedding.from_pretrained(codebook)

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return self.side * self.patch

    @classmethod
    def load(cls, folder: Path, side: int) -> PatchImageTokenizer:
        """Loads the codebook of a folder, in float32."""
        from safetensors.torch import load_file

        return cls(load_file(folder / CODEBOOK_FILE)["codebook"].float(), side).eval()

    def save(self, folder: Path) -> None:
        """Saves the codebook in half precision."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"codebook": self.codebook.weight.half().contiguous()}, folder / CODEBOOK_FILE)

    def patches(self, images: Tensor) -> Tensor:
        """Divides images ``(B, 3, H, W)`` into patches ``(B, tokens, width of a code)``."""
        rows = images.unflatten(2, (self.side, self.patch)).unflatten(4, (self.side, self.patch))
        return rows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """Encodes images ``(B, 3, H, W)`` in [-1, 1] to tokens, ``(B, tokens)``."""
        return nearest_codes(self.patches(images.to(self.codebook.weight)), self.codebook.weight)

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """Decodes tokens ``(B, tokens)`` to images in [-1, 1], ``(B, 3, H, W)``."""
        codes = self.codebook(tokens).view(-1, self.side, self.side, _CHANNELS, self.patch, self.patch)
        return codes.permute(0, 3, 1, 4, 2, 5).reshape(-1, _CHANNELS, self.image_size, self.image_size)


def nearest_codes(patches: Tensor, codes: Tensor) -> Tensor:
    """Returns the index of the nearest code ``(K, D)`` of each patch ``(..., D)``."""
    norms = codes.square().sum(-1)
    rows = patches.reshape(-1, codes.shape[-1]).split(_PATCHES_AT_ONCE)
    return torch.cat([(norms - 2 * part @ codes.T).argmin(-1) for part in rows]).view(patches.shape[:-1])
