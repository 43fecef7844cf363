"""Images as data URIs, so that a page is one file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

MAX_SIDE = 512
"""Larger images are scaled down to this many pixels, so that the page is small enough to mail."""
PIXELATED_SIDE = 256
"""Images up to this many pixels are shown with sharp pixels."""
_MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


def data_uri(path: Path) -> tuple[str, bool]:
    """Encodes an image file as a data URI; an image larger than `MAX_SIDE` is scaled down and encoded as WebP.

    Returns:
        The URI, and whether the image is at most `PIXELATED_SIDE` pixels wide and high.

    Raises:
        OSError: No file, or not an image. Pillow raises `ValueError` and `SyntaxError` for some damaged images.
    """
    raw = path.read_bytes()
    with Image.open(io.BytesIO(raw)) as image:
        return encode_data_uri(raw, str(path)), max(image.size) <= PIXELATED_SIDE


def encode_data_uri(raw: bytes, name: str = "the image") -> str:
    """Encodes the bytes of an image file as a data URI; a larger image is scaled down as in `data_uri`.

    Args:
        raw: content of the file.
        name: name of the image in errors.

    Raises:
        ValueError: an image of another kind than PNG, JPEG and WebP.
    """
    with Image.open(io.BytesIO(raw)) as image:
        image.load()
        mime = _MIME.get(image.format or "")
        if mime is None:
            raise ValueError(f"{name} is a {image.format} image")
        if max(image.size) > MAX_SIDE:
            small, buffer = image.convert("RGB"), io.BytesIO()
            small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
            small.save(buffer, "WEBP", quality=90)
            raw, mime = buffer.getvalue(), "image/webp"
        return f"data:{mime};base64,{base64.b64encode(raw).decode()}"
