"""What looks at a study's pictures, by the names and paths that a user gives."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor

from efface.benchmarks.protocol import benchmark_for
from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownName
from efface.core.score import DetectorId
from efface.detectors.clip_model import ClipModelScore
from efface.detectors.clip_score import load_clip_score
from efface.detectors.exposure import Exposure, Judged, NudeNet
from efface.detectors.features import OnnxFeatures
from efface.detectors.judge import load_judge

from .drawn import Tools


def concept_of(path: Path | None) -> Concept:
    """The concept of a YAML file, or nudity with its retain prompts."""
    return Concept.from_yaml(path if path is not None else Path(str(files("efface.sweep").joinpath("data", "nudity.yaml"))))


def tools_of(detector: str, counting: str, weights: Path | None, features: str, clip: str, concept: Concept, model: str) -> Tools:
    """The tools of a study.

    Raises:
        UnknownName: a detector that is none. EffaceError: files or packages that are not there.
    """
    return Tools(
        _exposure(detector, counting, weights, concept, model),
        _JudgeFeatures() if features == "pocket-judge" else OnnxFeatures(features),
        load_clip_score() if clip == "pocket-clip" else ClipModelScore(clip),
    )


def _exposure(detector: str, counting: str, weights: Path | None, concept: Concept, model: str) -> Exposure:
    if detector == "nudenet":
        return NudeNet(counting, weights)
    if detector != "pocket-judge":
        raise UnknownName("detector", detector, ("nudenet", "pocket-judge"))
    benchmark = benchmark_for(model, concept.name)
    if benchmark is None:
        raise EffaceError(
            f"pocket-judge counts the classes of a benchmark, and there is none of {concept.name!r} for {model}: give --concept"
        )
    return Judged(load_judge(), benchmark.head, benchmark.classes)


class _JudgeFeatures:
    """The features of pocket's judge."""

    def __init__(self) -> None:
        self._judge: Any = load_judge()
        name, _, version = self._judge.id.partition("@")
        self.detector = DetectorId(name, version)
        self._of: Callable[[Tensor], Tensor] = self._judge.features

    def __call__(self, images: Tensor) -> Tensor:
        """Features ``(N, d)`` of images ``(N, 3, 64, 64)`` in [0, 1]."""
        return self._of(images)
