"""Images as PNG files."""

from __future__ import annotations

import io

from PIL import Image
from torch import Tensor


def encode_png(image: Tensor) -> bytes:
    """Encode bytes ``(3, H, W)`` as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
