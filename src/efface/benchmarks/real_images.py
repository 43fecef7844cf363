"""Real images for CMMD: the scenes of pocket's world that the prompts describe, or a user's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.io import IMAGE_SUFFIXES, user_file_errors
from efface.pocket_world.scenes import draw_scene
from efface.pocket_world.world import NOTHING, Scene

from .samples import EvalSample


def drawn_scenes(samples: Sequence[EvalSample]) -> Tensor:
    """Draws the scene that each prompt describes, ``(N, 3, 64, 64)`` in [0, 1]; the samples' seeds decide details."""
    images = []
    for sample in samples:
        seen = {head: classes[0] for head, classes in sample.expected.items()}
        scene = Scene(seen.get("object", NOTHING), seen.get("background", "snow"), seen.get("style", "photo"))
        images.append(draw_scene(scene, np.random.default_rng(sample.seed)))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def read_cropped_images(folder: str | Path, side: int) -> Tensor:
    """Reads a folder's images, cropped to squares, ``(N, 3, side, side)`` in [0, 1].

    Raises:
        EffaceError: a folder with fewer than two images, or a file that cannot be read.
    """
    paths = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if len(paths) < 2:
        raise EffaceError(
            f"{folder} holds {len(paths)} images: give --real a folder with files of {', '.join(IMAGE_SUFFIXES)}"
        )
    images = []
    for path in paths:
        with user_file_errors(path, "read"), Image.open(path) as image:
            images.append(np.asarray(ImageOps.fit(image.convert("RGB"), (side, side))))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
