"""The image tokenizer and the tokens of the training scenes; both are made once and kept in the training folder.

The autoencoder is pocket's. The codebook is the k-means of its patches of latents, so no gradient is needed. The
objects have one size and stand in the middle of the image: a position takes 8 x 8 pixels, and a codebook of this size
shows objects at any position and size less well (an object is recognised in 95 % of the images instead of 99 %).
"""

from __future__ import annotations

from pathlib import Path

import scenes
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from common import ALL_SCENES, EMPTY_SCENES, TRAIN_SCENES, render, step_rng, to_tensor
from efface.models.latent_image_tokenizer import LatentImageTokenizer
from efface.models.model_ref import bundled_folder
from efface.pocket_world import Scene

SIDE = 8
NUM_CODES = 2048
COPIES = 6
OBJECT_SIDE = 50
SEED = 31
_BATCH = 32


def center_objects() -> None:
    """Makes all scenes show their object in the middle, at one size."""
    scenes.SCALES, scenes.JITTER = range(OBJECT_SIDE, OBJECT_SIDE + 1), 0


def training_scenes() -> list[Scene]:
    """Returns the scenes of every copy, in the order of the tokens."""
    return TRAIN_SCENES + EMPTY_SCENES * 2


def _assign(patches: Tensor, codes: Tensor) -> Tensor:
    norms = codes.square().sum(-1)
    return torch.cat([(norms - 2 * part @ codes.T).argmin(-1) for part in patches.split(8192)])


def k_means(patches: Tensor, num_codes: int, *, iterations: int, generator: torch.Generator) -> Tensor:
    """Returns the centres ``(num_codes, D)`` of patches ``(N, D)``; a centre without patches moves to a random one."""
    codes = patches[torch.randperm(len(patches), generator=generator)[:num_codes]].clone()
    for _ in range(iterations):
        nearest = _assign(patches, codes)
        counts = torch.zeros(num_codes).index_add_(0, nearest, torch.ones(len(patches)))
        sums = torch.zeros_like(codes).index_add_(0, nearest, patches)
        random = patches[torch.randint(len(patches), (num_codes,), generator=generator)]
        codes = torch.where(counts[:, None] == 0, random, sums / counts.clamp(min=1)[:, None])
    return codes


def _patches(tokenizer: LatentImageTokenizer, rows: list[Scene], copy: int) -> Tensor:
    """Renders one copy of scenes and returns their patches of latents, ``(len(rows), tokens, D)``."""
    rng = step_rng(SEED, copy)
    batches = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
    return torch.cat([tokenizer.patches(to_tensor(render(batch, rng)) * 2 - 1) for batch in batches])


@torch.no_grad()
def load_image_tokenizer(folder: Path) -> LatentImageTokenizer:
    """Loads the image tokenizer of a training folder; builds it first if there is none."""
    if not folder.exists():
        center_objects()
        vae = AutoencoderKL.from_pretrained(bundled_folder("pocket") / "vae", torch_dtype=torch.float32).eval()
        blank = LatentImageTokenizer(vae, torch.zeros(1, 16), SIDE)
        patches = _patches(blank, ALL_SCENES, 10**6).flatten(0, 1)
        generator = torch.Generator().manual_seed(SEED)
        codes = k_means(patches, NUM_CODES, iterations=15, generator=generator)
        LatentImageTokenizer(vae, codes, SIDE).save(folder)
    return LatentImageTokenizer.load(folder, SIDE)


@torch.no_grad()
def load_tokens(path: Path, tokenizer: LatentImageTokenizer) -> Tensor:
    """Loads the tokens ``(COPIES, scenes, SIDE * SIDE)`` of `training_scenes`; makes them first if there are none."""
    if not path.exists():
        center_objects()
        copies = [tokenizer.nearest(_patches(tokenizer, training_scenes(), copy)) for copy in range(COPIES)]
        save_file({"tokens": torch.stack(copies).to(torch.int16)}, path)
    return load_file(path)["tokens"]
