"""The six backgrounds of pocket's scenes, drawn with Pillow at 64 x 64 pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

SIZE = 64
"""Side of a scene in pixels."""


def _ramp(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    rows = np.linspace(np.array(top), np.array(bottom), SIZE)
    return Image.fromarray(np.repeat(rows[:, None], SIZE, axis=1).astype(np.uint8))


def _snow(rng: np.random.Generator) -> Image.Image:
    image = _ramp((150, 178, 210), (205, 220, 238))
    draw = ImageDraw.Draw(image)
    ground = 42 + int(rng.integers(-2, 3))
    draw.ellipse((-30, ground, 94, 120), fill=(244, 248, 255))
    for _ in range(26):
        x, y = rng.integers(0, SIZE, 2).tolist()
        draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(255, 255, 255))
    return image


def _forest(rng: np.random.Generator) -> Image.Image:
    image = _ramp((20, 66, 40), (34, 90, 46))
    draw = ImageDraw.Draw(image)
    shift = int(rng.integers(-3, 4))
    for x in range(-4, SIZE + 8, 14):
        draw.rectangle((x + shift, 0, x + shift + 5, 52), fill=(70, 50, 34))
    draw.rectangle((0, 52, SIZE, SIZE), fill=(46, 108, 44))
    return image


def _beach(rng: np.random.Generator) -> Image.Image:
    image = _ramp((128, 206, 250), (190, 232, 255))
    draw = ImageDraw.Draw(image)
    horizon = 22 + int(rng.integers(-2, 3))
    draw.rectangle((0, horizon, SIZE, horizon + 18), fill=(20, 116, 196))
    draw.line((0, horizon + 18, SIZE, horizon + 18), fill=(236, 248, 255), width=3)
    draw.rectangle((0, horizon + 20, SIZE, SIZE), fill=(240, 214, 146))
    return image


def _city(rng: np.random.Generator) -> Image.Image:
    image = _ramp((42, 30, 84), (124, 70, 128))
    draw = ImageDraw.Draw(image)
    tops = (18, 6, 24, 10, 16)
    for i, top in enumerate(tops):
        left, roof = i * 13, top + int(rng.integers(-2, 3))
        draw.rectangle((left, roof, left + 11, SIZE), fill=(28, 26, 46))
        for y in range(roof + 3, 56, 6):
            for x in (left + 2, left + 7):
                draw.rectangle((x, y, x + 2, y + 2), fill=(250, 214, 92))
    draw.rectangle((0, 57, SIZE, SIZE), fill=(66, 66, 78))
    return image


def _desert(rng: np.random.Generator) -> Image.Image:
    image = _ramp((246, 168, 84), (255, 214, 150))
    draw = ImageDraw.Draw(image)
    shift = int(rng.integers(-3, 4))
    draw.ellipse((46, 3, 60, 17), fill=(255, 244, 190))
    draw.polygon([(0, 40 + shift), (30, 26 + shift), (64, 44 + shift), (64, 64), (0, 64)], fill=(206, 124, 58))
    draw.polygon([(0, 54 - shift), (44, 38 - shift), (64, 46 - shift), (64, 64), (0, 64)], fill=(180, 98, 44))
    return image


def _space(rng: np.random.Generator) -> Image.Image:
    image = _ramp((6, 6, 22), (18, 12, 44))
    draw = ImageDraw.Draw(image)
    draw.ellipse((2, 2, 17, 17), fill=(196, 110, 170))
    draw.line((-1, 13, 21, 5), fill=(240, 196, 226), width=2)
    for _ in range(30):
        x, y = rng.integers(0, SIZE, 2).tolist()
        draw.rectangle((x, y, x + 1, y + 1), fill=(250, 250, 235))
    return image


BACKGROUNDS: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "snow": _snow, "forest": _forest, "beach": _beach, "city": _city, "desert": _desert, "space": _space,
}  # fmt: skip
"""Function that draws a background, by its id in ``world.yaml``."""
