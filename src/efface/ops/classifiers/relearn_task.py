"""What an attack on a classifier starts from."""

from __future__ import annotations

from dataclasses import dataclass

from .image_set import ImageSet


@dataclass(frozen=True)
class RelearnTask:
    """Images of an attack.

    Attributes:
        seen: training images of the concept with known classes.
        unseen: the concept's test images, on which the attack is scored.
        retain: training images of other classes; may be empty.
    """

    seen: ImageSet
    unseen: ImageSet
    retain: ImageSet

    def names(self, concept: str) -> list[str]:
        """Returns a name for every test image, as the attack's rows state it."""
        return [f"test image {number} of {concept}" for number in range(1, len(self.unseen) + 1)]
