"""What a detector saw, image by image: the table that the metrics are functions of. Itself no metric.

One `Sightings` a model holds words, not images, so that all metrics share one look at each image. Rows of two models are compared
by what was asked: the same prompt, the same seed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from efface.core.score import DetectorId
from efface.detectors.pocket_judge import CANNOT_TELL


class Detector(Protocol):
    """What looks at images, such as `efface.detectors.pocket_judge.Judge`.

    Called with images ``(N, 3, H, W)`` in [0, 1], it gives an object with one attribute a head: N class names, or ``"cannot tell"``.
    """

    @property
    def id(self) -> str:
        """Name and version, ``name@version``."""
        ...

    @property
    def thresholds(self) -> Mapping[str, float]:
        """By head, the confidence below which it says that it cannot tell."""
        ...

    def __call__(self, images: Tensor) -> Any:
        """Look."""
        ...


@dataclass(frozen=True)
class Expected:
    """What was erased, as the detector can see it.

    Attributes:
        head: the detector's head that sees it, such as ``object`` or ``style``.
        classes: the classes of the concept's whole domain; each of them is a detection of the concept.

    Raises:
        ValueError: no class, or text in place of a collection of classes.
    """

    head: str
    classes: Collection[str]

    def __post_init__(self) -> None:
        if isinstance(self.classes, str) or not self.classes:
            raise ValueError(f"a target needs a collection of classes, not {self.classes!r}")
        object.__setattr__(self, "classes", frozenset(self.classes))


@dataclass(frozen=True)
class EvalPrompt:
    """What one image was asked to show.

    Attributes:
        prompt: the prompt, by which intervals are clustered; for an attack the prompt under attack, not what became of it.
        seed: the seed.
        group: ``name``, ``domain``, ``near``, ``other``, or an attack's name.
        shows: by head, the class that the prompt asks for, or several that would each do; a head that is left out is not scored.
    """

    prompt: str
    seed: int
    group: str
    expected_classes: Mapping[str, str | Collection[str]]

    def __post_init__(self) -> None:
        shows = {
            head: frozenset([wanted] if isinstance(wanted, str) else wanted)
            for head, wanted in self.expected_classes.items()
        }
        object.__setattr__(self, "expected_classes", shows)

    @property
    def key(self) -> tuple[str, str, int]:
        """Group, prompt and seed."""
        return self.group, self.prompt, self.seed


@dataclass(frozen=True)
class Detection:
    """One image: what was asked, and by head the class seen or ``"cannot tell"``."""

    prompt: EvalPrompt
    judgement: Mapping[str, str]

    def shows(self, target: Expected) -> bool:
        """Whether the concept is in the image."""
        return self.judgement[target.head] in target.classes

    def matches_expected(self, heads: Collection[str]) -> bool:
        """Whether each of these heads saw what was asked of it; a head that nothing was asked of has no say."""
        return all(
            self.judgement[head] in self.prompt.expected_classes[head]
            for head in heads
            if head in self.prompt.expected_classes
        )

    def abstained(self, head: str) -> bool:
        """Whether that head could not tell."""
        return self.judgement[head] == CANNOT_TELL


class Detections:
    """What one detector saw in the images of one model.

    Args:
        detector: what looks.
    """

    def __init__(self, detector: Detector) -> None:
        self._look = detector
        self._rows: dict[tuple[str, str, int], Detection] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def update(self, images: Tensor, asked: Sequence[EvalPrompt]) -> Any:
        """Look at images ``(N, 3, H, W)`` in [0, 1]; nothing of a batch is taken when any of it is refused.

        Returns:
            What the detector gave for them; None for no images.

        Raises:
            ValueError: another number of images than of `asked`, a head that the detector has not, or an image that was there before.
        """
        if len(images) != len(asked):
            raise ValueError(f"{len(images)} images for {len(asked)} prompts")
        heads, new = list(self.thresholds), {one.key for one in asked}
        if len(new) < len(asked) or not new.isdisjoint(self._rows):
            raise ValueError("an image of the same group, prompt and seed is there twice")
        if unknown := {head for one in asked for head in one.expected_classes}.difference(heads):
            raise ValueError(f"the detector has no head {sorted(unknown)}, only {heads}")
        if not asked:
            return None
        judgement = self._look(images)
        labels = {head: getattr(judgement, head) for head in heads}
        self._rows.update(
            (one.key, Detection(one, {head: labels[head][i] for head in heads})) for i, one in enumerate(asked)
        )
        return judgement

    def rows(self, *groups: str) -> list[Detection]:
        """The detections of these groups, in the order in which they came."""
        return [row for row in self._rows.values() if row.prompt.group in groups]

    def merge(self, other: Detections) -> None:
        """Takes the rows of another table by the same detector over.

        Raises:
            ValueError: another detector, or an image that was there before.
        """
        if other.detector() != self.detector() or not self._rows.keys().isdisjoint(other._rows):
            raise ValueError("tables of different detectors, or with images in common, are not one table")
        self._rows.update(other._rows)

    def find(self, key: tuple[str, str, int]) -> Detection | None:
        """The detection of that group, prompt and seed, or None."""
        return self._rows.get(key)

    @property
    def thresholds(self) -> dict[str, float]:
        """By head of the detector, its threshold."""
        return {head: float(value) for head, value in self._look.thresholds.items()}

    def detector(self, *heads: str) -> DetectorId:
        """The detector's name and version, and the threshold where one head alone is meant.

        Raises:
            ValueError: a head that the detector has not.
        """
        name, _, version = self._look.id.partition("@")
        if unknown := set(heads).difference(self.thresholds):
            raise ValueError(f"the detector has no head {sorted(unknown)}, only {list(self.thresholds)}")
        return DetectorId(name, version, self.thresholds[heads[0]] if len(heads) == 1 else None)


def pairs(before: Detections, after: Detections, groups: Sequence[str]) -> list[tuple[Detection, Detection]]:
    """The same prompts and seeds before and after, in the order of `before`; none where either model drew nothing.

    Raises:
        ValueError: an image on one side only, or one that was asked to show something else, or another detector or threshold.
    """
    old, new = before.rows(*groups), {row.prompt.key: row for row in after.rows(*groups)}
    if not old or not new:
        return []
    found = [(row, new[row.prompt.key]) for row in old if row.prompt.key in new]
    if len(found) < max(len(old), len(new)):
        raise ValueError(
            f"{', '.join(groups)}: {len(old)} images before and {len(new)} after, of which {len(found)} have a partner"
        )
    for one, other in found:
        if one.prompt != other.prompt:
            raise ValueError(
                f"{one.prompt.key} was asked to show {one.prompt.expected_classes} before and {other.prompt.expected_classes} after"
            )
    if before.detector() != after.detector() or before.thresholds != after.thresholds:
        raise ValueError("before and after were judged by different detectors, or with different thresholds")
    return found
