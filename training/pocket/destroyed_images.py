"""Destroyed images for the judge's training: noise, smears, half objects and blends."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from common import ALL_SCENES, random_scene, render, to_tensor
from efface.pocket_world import Scene
from efface.pocket_world.scene_backgrounds import BACKGROUNDS, SIZE
from efface.pocket_world.scene_styles import STYLES
from efface.pocket_world.scenes import glyph_layers

DESTRUCTIONS = ("noise", "smear", "half object", "blend")


def noisy(images: Tensor, sigma: float, rng: np.random.Generator) -> Tensor:
    """Adds Gaussian noise."""
    noise = torch.from_numpy(rng.standard_normal(tuple(images.shape), dtype=np.float32))
    return (images + sigma * noise).clamp(0, 1)


def blurred(images: Tensor, radius: float) -> Tensor:
    """Applies a Gaussian blur of ``radius`` pixels."""
    arrays = (images.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    return to_tensor(
        np.stack([np.asarray(Image.fromarray(a).filter(ImageFilter.GaussianBlur(radius))) for a in arrays])
    )


def half_object(scene: Scene, rng: np.random.Generator) -> Tensor:
    """Draws a scene in which half of the object is missing."""
    image = np.asarray(BACKGROUNDS[scene.background](rng), dtype=np.float32) / 255
    colour, alpha, _ = glyph_layers(scene.object, int(rng.integers(46, 54)))
    mask = np.ones((SIZE, SIZE, 1), dtype=np.float32)
    axis, first = int(rng.integers(2)), bool(rng.integers(2))
    np.moveaxis(mask, axis, 0)[slice(0, 32) if first else slice(32, SIZE)] = 0
    image = image * (1 - alpha * mask) + colour * mask
    return to_tensor(np.clip(STYLES[scene.style](image) * 255, 0, 255).astype(np.uint8)[None])[0]


def destroy(kind: str, rng: np.random.Generator) -> Tensor:
    """Returns one destroyed image ``(3, 64, 64)``."""
    scene, other = random_scene(rng, ALL_SCENES), random_scene(rng, ALL_SCENES)
    if kind == "half object":
        return half_object(ALL_SCENES[int(rng.integers(len(ALL_SCENES)))], rng)
    image = to_tensor(render([scene], rng))
    if kind == "noise":
        amount = float(rng.uniform(0.75, 1.0))
        base = torch.from_numpy(rng.random((1, 3, SIZE, SIZE), dtype=np.float32))
        smooth = torch.nn.functional.interpolate(
            base[..., :: 2 ** int(rng.integers(4)), :: 2 ** int(rng.integers(4))], size=(SIZE, SIZE)
        )
        return ((1 - amount) * image + amount * smooth)[0]
    if kind == "smear":
        return blurred(image, float(rng.uniform(6, 12)))[0]
    return (0.5 * image + 0.5 * to_tensor(render([other], rng)))[0]
