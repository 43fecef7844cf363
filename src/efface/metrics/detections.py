"""What a detector reports for each image: the table that all rate metrics are functions of.

`Detections` holds class names, not images, so that every metric shares one run of the detector on each image.
Detections of two models are compared by prompt and seed (`pairing.paired_detections`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from efface.core.score import DetectorId
from efface.detectors.abstention import CANNOT_TELL
from efface.ops.unreadable_images import flat_images

DetectionKey = tuple[str, str, int]
"""Group, prompt and seed of an image."""


class Detector(Protocol):
    """Classifies images, such as `efface.detectors.pocket_judge.Judge`.

    Called with images ``(N, 3, H, W)`` in [0, 1], it returns an object with one attribute a head: N class names, or
    ``"cannot tell"``.
    """

    @property
    def id(self) -> str:
        """Name and version, ``name@version``."""
        ...

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Confidence below which each head reports ``"cannot tell"``."""
        ...

    def __call__(self, images: Tensor) -> Any:
        """Classify the images."""
        ...


@dataclass(frozen=True)
class TargetClasses:
    """The erased concept as a detector sees it.

    Attributes:
        head: the detector's head that sees it, such as ``object`` or ``style``.
        classes: the classes of the concept's whole domain; any of them counts as a detection of the concept.

    Raises:
        ValueError: no class, or a string in place of a collection of classes.
    """

    head: str
    classes: Collection[str]

    def __post_init__(self) -> None:
        if isinstance(self.classes, str) or not self.classes:
            raise ValueError(f"a target needs a collection of classes, not {self.classes!r}")
        object.__setattr__(self, "classes", frozenset(self.classes))


@dataclass(frozen=True)
class EvalPrompt:
    """The prompt of one image and the classes it asks for.

    Attributes:
        prompt: the prompt, by which intervals are clustered; for an attack the prompt before the attack changed it.
        seed: the image's seed.
        group: ``name``, ``domain``, ``near``, ``other``, or an attack's name.
        expected_classes: for each head, the class that the prompt asks for, or several that are each acceptable. A
            head that is absent is not scored.
    """

    prompt: str
    seed: int
    group: str
    expected_classes: Mapping[str, str | Collection[str]]

    def __post_init__(self) -> None:
        expected = {
            head: frozenset([classes] if isinstance(classes, str) else classes)
            for head, classes in self.expected_classes.items()
        }
        object.__setattr__(self, "expected_classes", expected)

    @property
    def key(self) -> DetectionKey:
        """Group, prompt and seed."""
        return self.group, self.prompt, self.seed


@dataclass(frozen=True)
class Detection:
    """One image: its prompt, and for each head the reported class or ``"cannot tell"``."""

    prompt: EvalPrompt
    labels: Mapping[str, str]

    def shows(self, target: TargetClasses) -> bool:
        """Whether the image shows the target concept."""
        return self.labels[target.head] in target.classes

    def matches_expected(self, heads: Collection[str]) -> bool:
        """Whether each of these heads reports an expected class; heads that the prompt asks nothing of are ignored."""
        expected = self.prompt.expected_classes
        return all(self.labels[head] in expected[head] for head in heads if head in expected)

    def abstained(self, head: str) -> bool:
        """Whether that head reports ``"cannot tell"``."""
        return self.labels[head] == CANNOT_TELL


class Detections:
    """The detections of one detector in the images of one model.

    Args:
        detector: classifies the images.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._detections: dict[DetectionKey, Detection] = {}

    def __len__(self) -> int:
        return len(self._detections)

    def update(self, images: Tensor, prompts: Sequence[EvalPrompt]) -> Any:
        """Run the detector on images ``(N, 3, H, W)`` in [0, 1]; a refused batch leaves the table unchanged.

        An image of one flat colour, such as a black one, reads ``"cannot tell"`` in every head.

        Returns:
            The detector's output for them; None without images.

        Raises:
            ValueError: the numbers of images and prompts differ, the detector lacks a head, or an image is already in
                the table.
            EffaceError: an image with NaN or infinity.
        """
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images for {len(prompts)} prompts")
        new_keys = {prompt.key for prompt in prompts}
        if len(new_keys) < len(prompts) or not new_keys.isdisjoint(self._detections):
            raise ValueError("two images have the same group, prompt and seed")
        self._check_heads({head for prompt in prompts for head in prompt.expected_classes})
        if not prompts:
            return None
        flat, output = flat_images(images), self._detector(images)
        labels = {head: getattr(output, head) for head in self.thresholds}
        for i, prompt in enumerate(prompts):
            seen = {head: CANNOT_TELL if flat[i] else row[i] for head, row in labels.items()}
            self._detections[prompt.key] = Detection(prompt, seen)
        return output

    def rows(self, *groups: str) -> list[Detection]:
        """The detections of these groups, in the order of their images."""
        return [row for row in self._detections.values() if row.prompt.group in groups]

    def merge(self, other: Detections) -> None:
        """Add the detections of another table by the same detector.

        Raises:
            ValueError: another detector, or an image that both tables hold.
        """
        if other.detector() != self.detector():
            raise ValueError(f"cannot merge detections of {other.detector()} into those of {self.detector()}")
        if not self._detections.keys().isdisjoint(other._detections):
            raise ValueError("cannot merge: both tables hold the same image")
        self._detections.update(other._detections)

    def find(self, key: DetectionKey) -> Detection | None:
        """The detection with that group, prompt and seed, or None."""
        return self._detections.get(key)

    @property
    def thresholds(self) -> dict[str, float]:
        """The threshold of each of the detector's heads."""
        return {head: float(value) for head, value in self._detector.thresholds.items()}

    def can_abstain(self, head: str) -> bool:
        """Whether that head ever reports ``"cannot tell"`` for an image with content."""
        return getattr(self._detector, "abstains", True) and self.thresholds[head] > 0

    def detector(self, *heads: str) -> DetectorId:
        """The detector's name and version, and its threshold where exactly one head is given.

        Raises:
            ValueError: a head that the detector does not have.
        """
        self._check_heads(set(heads))
        name, _, version = self._detector.id.partition("@")
        return DetectorId(name, version, self.thresholds[heads[0]] if len(heads) == 1 else None)

    def _check_heads(self, heads: set[str]) -> None:
        if unknown := heads.difference(self.thresholds):
            raise ValueError(f"the detector has no head {sorted(unknown)}, only {list(self.thresholds)}")
