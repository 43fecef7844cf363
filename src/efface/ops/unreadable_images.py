"""Images that no detector may judge: of one flat colour, such as black ones, or with numbers that are not finite."""

from __future__ import annotations

from torch import Tensor

from efface.models.image_checks import check_finite

FLAT_RANGE = 2 / 255
"""Range of values within each channel below which an image counts as flat."""


def flat_images(images: Tensor) -> list[bool]:
    """Returns for each image ``(3, H, W)`` in [0, 1] whether it has one flat colour.

    Raises:
        EffaceError: an image with NaN or infinity.
    """
    check_finite(images)
    pixels = images.flatten(2)
    ranges = (pixels.amax(2) - pixels.amin(2)).amax(1)
    return [bool(value < FLAT_RANGE) for value in ranges.tolist()]
