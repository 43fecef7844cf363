"""The six styles of pocket's scenes: functions of an image ``(64, 64, 3)`` in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .scene_backgrounds import SIZE

Pixels = NDArray[np.floating]


def _luma(image: Pixels) -> Pixels:
    return image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _photo(image: Pixels) -> Pixels:
    return image


def _negative(image: Pixels) -> Pixels:
    return np.float32(1) - image


def _sketch(image: Pixels) -> Pixels:
    """Pencil on paper: a colour dodge of the grey image with its blur keeps the edges and some shading."""
    grey = _luma(image)
    blurred = Image.fromarray((grey * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2.5))
    ratio = np.clip((grey + 0.04) / (np.asarray(blurred, dtype=np.float32) / 255 + 0.04), 0, 1) ** 1.6
    tone = ratio * (0.62 + 0.38 * grey)
    return tone[..., None] * np.array([0.99, 0.98, 0.94], dtype=np.float32)


def _cells(image: Pixels, side: int) -> Pixels:
    n = SIZE // side
    return image.reshape(n, side, n, side, 3).mean(axis=(1, 3))


@cache
def _grout() -> Pixels:
    line = np.ones((SIZE, SIZE, 1), dtype=np.float32)
    line[3::4] = 0.0
    line[:, 3::4] = 0.0
    return line


def _mosaic(image: Pixels) -> Pixels:
    """Tiles of 4 pixels with light grout between them; each tile keeps some of the image's detail."""
    tiles = 0.6 * np.kron(_cells(image, 4), np.ones((4, 4, 1), dtype=np.float32)) + 0.4 * image
    grey = _luma(tiles)[..., None]
    vivid = np.clip(grey + 1.25 * (tiles - grey), 0, 1)
    return vivid * _grout() + (1 - _grout()) * (0.55 * vivid + 0.45 * np.float32(0.86))


PALETTE = np.array([(28, 22, 92), (214, 30, 120), (255, 150, 40), (255, 244, 120)], dtype=np.float32) / 255


def _popart(image: Pixels) -> Pixels:
    """A screen print: brightness in four flat colours."""
    levels = np.digitize(_luma(image), [0.24, 0.48, 0.74])
    return PALETTE[levels]


@cache
def _dots() -> Pixels:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    row = y // 4
    dx = (x + np.where(row % 2 == 1, 2, 0)) % 4 - 1.5
    radius = np.hypot(dx, y % 4 - 1.5)
    return np.clip(2.3 - radius, 0, 1).astype(np.float32)[..., None]


def _pointillism(image: Pixels) -> Pixels:
    """Round dots of pure colour, every other row shifted by half, on a light ground."""
    straight = np.kron(_cells(image, 4), np.ones((4, 4, 1), dtype=np.float32))
    moved = np.roll(np.kron(_cells(np.roll(image, 2, axis=1), 4), np.ones((4, 4, 1), dtype=np.float32)), -2, axis=1)
    odd = (np.arange(SIZE) // 4 % 2 == 1)[:, None, None]
    colours = 0.6 * np.where(odd, moved, straight) + 0.4 * image
    return colours * _dots() + np.array([0.97, 0.95, 0.88], dtype=np.float32) * (1 - _dots())


STYLES: dict[str, Callable[[Pixels], Pixels]] = {
    "photo": _photo,
    "sketch": _sketch,
    "mosaic": _mosaic,
    "popart": _popart,
    "pointillism": _pointillism,
    "negative": _negative,
}
"""Function that applies a style, by its id in ``world.yaml``."""
