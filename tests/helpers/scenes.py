"""Scenes of pocket's world as image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from efface.pocket_world.scenes import draw_scene
from efface.pocket_world.world import Scene


def save_scenes(folder: Path, name: str, count: int, background: str = "snow") -> Path:
    """Saves drawings of an object in a folder; returns the folder."""
    folder.mkdir(exist_ok=True)
    for seed in range(count):
        pixels = draw_scene(Scene(name, background, "photo"), np.random.default_rng(seed))
        Image.fromarray(pixels).save(folder / f"{name}-{background}-{seed}.png")
    return folder
