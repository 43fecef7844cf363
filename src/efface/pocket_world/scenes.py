"""Draws a scene: a glyph on a background, in a style, at 64 x 64 pixels.

Reads the glyph atlas ``data/glyphs.png``, not the font. One generator supplies all randomness, so a seed always gives
the same image.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .scene_backgrounds import BACKGROUNDS, SIZE
from .scene_styles import STYLES, Pixels
from .world import NOTHING, Scene, load_world

ATLAS = Path(__file__).parent / "data" / "glyphs.png"
CELL = 64  # side of a glyph in the atlas
COLUMNS = 10
SCALES = range(46, 54)  # an object's longer side in pixels
JITTER = 3


@cache
def _atlas() -> Image.Image:
    return Image.open(ATLAS).convert("RGBA")


@cache
def glyph_layers(name: str, side: int) -> tuple[Pixels, Pixels, Pixels]:
    """Returns premultiplied colour, alpha and soft shadow of a glyph of ``side`` pixels, each on a 64 x 64 canvas."""
    index = list(load_world().object_classes).index(name)
    left, top = index % COLUMNS * CELL, index // COLUMNS * CELL
    glyph = _atlas().crop((left, top, left + CELL, top + CELL)).resize((side, side), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (SIZE, SIZE))
    canvas.paste(glyph, ((SIZE - side) // 2, (SIZE - side) // 2))
    rgba = np.asarray(canvas, dtype=np.float32) / 255
    shadow = canvas.getchannel("A").filter(ImageFilter.GaussianBlur(2))
    soft = np.asarray(shadow, dtype=np.float32)[..., None] / np.float32(255)
    return rgba[..., :3] * rgba[..., 3:], rgba[..., 3:], soft


def _shift(image: Pixels, dx: int, dy: int) -> Pixels:
    moved = np.zeros_like(image)
    moved[max(dy, 0) : SIZE + min(dy, 0), max(dx, 0) : SIZE + min(dx, 0)] = image[
        max(-dy, 0) : SIZE + min(-dy, 0), max(-dx, 0) : SIZE + min(-dx, 0)
    ]
    return moved


def draw_scene(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draws a scene.

    Args:
        scene: object, background and style.
        rng: decides the object's position and size and the background's details.

    Returns:
        The image, ``(64, 64, 3)`` bytes.
    """
    image = np.asarray(BACKGROUNDS[scene.background](rng), dtype=np.float32) / 255
    if scene.object != NOTHING:
        side = int(rng.integers(SCALES.start, SCALES.stop))
        dx, dy = (int(v) for v in rng.integers(-JITTER, JITTER + 1, 2))
        colour, alpha, shadow = glyph_layers(scene.object, side)
        image = image * (1 - 0.35 * _shift(shadow, dx + 2, dy + 2))
        image = image * (1 - _shift(alpha, dx, dy)) + _shift(colour, dx, dy)
    styled = STYLES[scene.style](image)
    return np.asarray(np.clip(styled * 255 + 0.5, 0, 255), dtype=np.uint8)
