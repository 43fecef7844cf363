"""Captions by pocket's judge: object, place and style in the words of the world."""

from __future__ import annotations

from torch import Tensor

from efface.core.score import DetectorId
from efface.pocket_world.captions import assemble, noun_phrase
from efface.pocket_world.world import NOTHING, load_world

from .pocket_judge import Judge, load_judge

UNKNOWN = "something"


class PocketCaptioner:
    """Describes images by what the judge sees, such as "a pencil sketch of a knife in the snow".

    Args:
        judge: the judge.

    Attributes:
        detector: the judge's name and version.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        name, _, version = judge.id.partition("@")
        self.detector = DetectorId(name, version)

    @classmethod
    def load(cls) -> PocketCaptioner:
        """Loads the judge that comes with efface."""
        return cls(load_judge())

    def captions(self, images: Tensor) -> list[str]:
        """Returns a caption of each image ``(N, 3, 64, 64)`` in [0, 1]; what the judge cannot tell is left out."""
        seen, world = self._judge(images), load_world()
        texts = []
        for name, place, style in zip(seen.object, seen.background, seen.style, strict=True):
            item = world.object_classes.get(name)
            subject = UNKNOWN if item is None and name != NOTHING else "an empty place"
            if item is not None:
                subject = noun_phrase(item, item.name)
            phrase = world.backgrounds[place].phrases[0] if place in world.backgrounds else ""
            prefix = world.styles[style].prefixes[0] if style in world.styles else ""
            texts.append(assemble(subject, phrase, prefix, ""))
        return texts
