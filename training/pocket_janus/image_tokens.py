"""The image tokenizer and the tokens of the training scenes; both are made once and kept in the training folder.

The codebook is the k-means of the scenes' patches of pixels, on their principal components, so no gradient is needed.
A patch has no context: the same part of an object gives the same token in front of every background, which the language
model learns far sooner than codes of an autoencoder's latents. The objects have one size and stand in the middle of the
image, where one patch always shows the same part.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from common import ALL_SCENES, EMPTY_SCENES, TRAIN_SCENES, render, step_rng, to_tensor
from efface.models.patch_image_tokenizer import PatchImageTokenizer, nearest_codes
from efface.pocket_world import Scene, scenes

SIDE, PATCH = 8, 8
NUM_CODES = 4096
COPIES = 3
OBJECT_SIDE = 50
SEED = 31
COMPONENTS, ITERATIONS = 48, 6
_BATCH = 32


def center_objects() -> None:
    """Makes all scenes show their object in the middle, at one size."""
    scenes.SCALES, scenes.JITTER = range(OBJECT_SIDE, OBJECT_SIDE + 1), 0


def training_scenes() -> list[Scene]:
    """Returns the scenes of every copy, in the order of the tokens."""
    return TRAIN_SCENES + EMPTY_SCENES * 2


def principal_components(patches: Tensor, count: int) -> Tensor:
    """Returns the patches ``(N, D)`` on their first principal components, ``(N, count)``."""
    centred = patches - patches.mean(0)
    covariance = centred.T @ centred / len(centred)
    return centred @ torch.linalg.eigh(covariance).eigenvectors[:, -count:].flip(1)


def k_means(patches: Tensor, num_codes: int, *, iterations: int, generator: torch.Generator) -> Tensor:
    """Returns each patch's cluster ``(N,)``; a centre without patches moves to a random one."""
    codes = patches[torch.randperm(len(patches), generator=generator)[:num_codes]].clone()
    for _ in range(iterations):
        nearest = nearest_codes(patches, codes)
        means, counts = cluster_means(patches, nearest, num_codes)
        random = patches[torch.randint(len(patches), (num_codes,), generator=generator)]
        codes = torch.where(counts[:, None] == 0, random, means)
    return nearest_codes(patches, codes)


def cluster_means(patches: Tensor, clusters: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """Returns the means ``(num_codes, D)`` and the sizes ``(num_codes,)`` of clusters."""
    counts = torch.zeros(num_codes).index_add_(0, clusters, torch.ones(len(patches)))
    sums = torch.zeros(num_codes, patches.shape[1]).index_add_(0, clusters, patches)
    return sums / counts.clamp(min=1)[:, None], counts


def _images(rows: list[Scene], copy: int) -> Tensor:
    """Renders one copy of scenes, ``(len(rows), 3, 64, 64)`` in [-1, 1]."""
    rng = step_rng(SEED, copy)
    batches = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
    return torch.cat([to_tensor(render(batch, rng)) * 2 - 1 for batch in batches])


def load_image_tokenizer(folder: Path) -> PatchImageTokenizer:
    """Loads the image tokenizer of a training folder; builds it first if there is none."""
    if not folder.exists():
        center_objects()
        blank = PatchImageTokenizer(torch.zeros(1, 3 * PATCH * PATCH), SIDE)
        patches = torch.unique(blank.patches(_images(ALL_SCENES, 10**6)).flatten(0, 1), dim=0)
        reduced = principal_components(patches, COMPONENTS)
        generator = torch.Generator().manual_seed(SEED)
        clusters = k_means(reduced, NUM_CODES, iterations=ITERATIONS, generator=generator)
        PatchImageTokenizer(cluster_means(patches, clusters, NUM_CODES)[0], SIDE).save(folder)
    return PatchImageTokenizer.load(folder, SIDE)


def load_tokens(path: Path, tokenizer: PatchImageTokenizer) -> Tensor:
    """Loads the tokens ``(COPIES, scenes, SIDE * SIDE)`` of `training_scenes`; makes them first if there are none."""
    if not path.exists():
        center_objects()
        copies = [tokenizer.tokens(_images(training_scenes(), copy)) for copy in range(COPIES)]
        save_file({"tokens": torch.stack(copies).to(torch.int16)}, path)
    return load_file(path)["tokens"]
