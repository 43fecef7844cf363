"""Drawing a scene: a glyph on a background, in a style, at 64 x 64 pixels.

Needs the glyph atlas that ships with the package, not the font. Everything is drawn from one generator, so a seed gives the same image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from .world import NOTHING, Scene, load_world

Pixels = NDArray[np.floating]
SIZE = 64
CELL = 64  # side of a glyph in the atlas
COLUMNS = 10
SCALES = range(46, 54)  # an object's longer side in pixels
JITTER = 3


@cache
def _atlas() -> Image.Image:
    with as_file(files("efface.pocket_world").joinpath("data", "glyphs.png")) as path:
        return Image.open(path).convert("RGBA")


@cache
def _glyph(name: str, side: int) -> tuple[Pixels, Pixels, Pixels]:
    """Premultiplied colour, alpha and soft shadow of a glyph of ``side`` pixels, each on a 64 x 64 canvas."""
    index = list(load_world().things).index(name)
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


def _luma(image: Pixels) -> Pixels:
    return image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _photo(image: Pixels) -> Pixels:
    return image


def _negative(image: Pixels) -> Pixels:
    return np.float32(1) - image


def _sketch(image: Pixels) -> Pixels:
    """Pencil on paper: a colour dodge of the grey image with its blur leaves the edges; some shading stays."""
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
    """Tiles of 4 pixels with light grout between them; a trace of the image's detail stays on each tile."""
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
    "photo": _photo, "sketch": _sketch, "mosaic": _mosaic, "popart": _popart, "pointillism": _pointillism, "negative": _negative,
}  # fmt: skip


def draw_scene(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw ``scene`` as a ``(64, 64, 3)`` image of bytes; position, size and the background's details come from ``rng``."""
    image = np.asarray(BACKGROUNDS[scene.background](rng), dtype=np.float32) / 255
    if scene.object != NOTHING:
        side = int(rng.integers(SCALES.start, SCALES.stop))
        dx, dy = (int(v) for v in rng.integers(-JITTER, JITTER + 1, 2))
        colour, alpha, shadow = _glyph(scene.object, side)
        image = image * (1 - 0.35 * _shift(shadow, dx + 2, dy + 2))
        image = image * (1 - _shift(alpha, dx, dy)) + _shift(colour, dx, dy)
    styled = STYLES[scene.style](image)
    return np.asarray(np.clip(styled * 255 + 0.5, 0, 255), dtype=np.uint8)


def contact_sheet(images: list[NDArray[np.uint8]], columns: int) -> Image.Image:
    """The images side by side, row by row."""
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (SIZE + 2), rows * (SIZE + 2)), "white")
    for i, image in enumerate(images):
        sheet.paste(Image.fromarray(image), (i % columns * (SIZE + 2) + 1, i // columns * (SIZE + 2) + 1))
    return sheet
