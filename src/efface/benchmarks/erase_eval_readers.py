"""The readers of EraseEval: a captioner, an embedder of texts and images, and a detector that answers yes or no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.score import DetectorId
from efface.detectors.zero_shot import Scorer
from efface.models.model_ref import is_hub_id
from efface.ops.unreadable_images import flat_images

from .benchmark import Benchmark
from .detector_loading import load_clip, load_detector
from .detector_names import POCKET_JUDGE

ENDPOINT, DETECTOR = "endpoint", "detector"


class Captioner(Protocol):
    """Describes images."""

    detector: DetectorId

    def captions(self, images: Tensor) -> list[str]:
        """Returns a caption of each image ``(N, 3, H, W)`` in [0, 1]."""
        ...


class YesNoDetector(Protocol):
    """Answers whether images show the concept."""

    detector: DetectorId

    def shows(self, images: Tensor) -> list[bool]:
        """Returns an answer for each image ``(N, 3, H, W)`` in [0, 1]."""
        ...


@dataclass(frozen=True)
class Readers:
    """What reads the images.

    Attributes:
        captioner: describes them.
        embedder: a CLIP model, which embeds texts and images and scores them with prompts.
        presence: answers whether they show the concept.
    """

    captioner: Captioner
    embedder: Scorer
    presence: YesNoDetector


class DetectorPresence:
    """A benchmark's own detector as a detector that answers yes or no.

    Args:
        benchmark: the benchmark; any of its classes counts as the concept.
        device: where the detector runs.
    """

    def __init__(self, benchmark: Benchmark, device: torch.device | str = "cpu") -> None:
        self._reads = load_detector(benchmark, device)
        self._head, self._classes = benchmark.head, frozenset(benchmark.classes)
        name, _, version = self._reads.id.partition("@")
        self.detector = DetectorId(name, version, float(self._reads.thresholds[self._head]))

    def shows(self, images: Tensor) -> list[bool]:
        """Returns whether the detector reports one of the concept's classes; never for an image of one flat colour."""
        labels, flat = getattr(self._reads(images), self._head), flat_images(images)
        return [label in self._classes and not flat[i] for i, label in enumerate(labels)]


def load_readers(
    benchmark: Benchmark, captioner: str | None, yes_no: str, endpoint: tuple[str, str] | None,
    device: torch.device | str = "cpu",
) -> Readers:  # fmt: skip
    """Loads the readers of a benchmark.

    Args:
        benchmark: names the embedder (its CLIP model) and the detector.
        captioner: ``pocket-judge``, ``endpoint``, or the folder or hub id of a BLIP captioner; by default pocket's
            judge where the benchmark's detector is that.
        yes_no: ``detector`` for the benchmark's own detector, or ``endpoint``.
        endpoint: address and name of a vision-language model's chat endpoint.
        device: where models run.

    Raises:
        EffaceError: no captioner, an unknown name, or an endpoint that is needed and not given.
    """
    if captioner is None:
        if benchmark.detector != POCKET_JUDGE:
            raise EffaceError(
                f"{benchmark.name} has no captioner: give --captioner with the folder or hub id of a BLIP model, or "
                "--captioner endpoint with --endpoint URL --language-model NAME"
            )
        captioner = POCKET_JUDGE
    if yes_no not in (DETECTOR, ENDPOINT):
        raise EffaceError(f"unknown detector {yes_no!r}: give --yes-no {DETECTOR} or --yes-no {ENDPOINT}")
    wanted = [name for name, value in (("--captioner", captioner), ("--yes-no", yes_no)) if value == ENDPOINT]
    if wanted and endpoint is None:
        raise EffaceError(f"{wanted[0]} endpoint needs --endpoint URL and --language-model NAME")
    from efface.detectors.endpoint_reader import EndpointReader

    reader = None if endpoint is None else EndpointReader(*endpoint, _question(benchmark.concept))
    presence: Any = reader if yes_no == ENDPOINT else DetectorPresence(benchmark, device)
    captions: Any = reader if captioner == ENDPOINT else _load_captioner(captioner, device)
    return Readers(captions, load_clip(benchmark.clip, device), presence)


def _load_captioner(name: str, device: torch.device | str) -> Any:
    if name == POCKET_JUDGE:
        from efface.detectors.pocket_captions import PocketCaptioner

        return PocketCaptioner.load()
    if not Path(name).is_dir() and not is_hub_id(name):
        raise EffaceError(
            f"{name!r} is no captioner: give {POCKET_JUDGE}, {ENDPOINT}, or the folder or hub id of a BLIP model"
        )
    from efface.detectors.blip import BlipCaptioner
    from efface.models.hub import pretrained_folder

    return BlipCaptioner(pretrained_folder(name), device, "" if Path(name).is_dir() else name)


def _question(concept: Concept) -> str:
    """Returns the question for a concept's presence."""
    phrase = f"the style of {concept.name}" if concept.kind == "style" else concept.name
    return f"Does this image show {phrase}?"


def words_of(benchmark: Benchmark) -> Sequence[str]:
    """Returns the words that name the concept in a caption: its own, and the phrases of the groups name and domain."""
    phrases = [
        phrase["phrase"]
        for split in benchmark.splits.values()
        for group in ("name", "domain")
        for phrase in split["groups"][group]["phrases"]
    ]
    bare = [text.split(" ", 1)[1] if text.startswith(("a ", "an ", "the ")) else text for text in phrases]
    return tuple(dict.fromkeys([*benchmark.concept.words, *(text for text in bare if "{}" not in text)]))
