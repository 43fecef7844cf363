"""What looks at a study's images, by the names and paths that a user gives."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from efface.benchmarks.benchmark import benchmark_for
from efface.benchmarks.detector_loading import load_clip, load_features
from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownNameError
from efface.detectors.nudenet import ClassCounter, NudeNet, NudityCounter
from efface.detectors.pocket_judge import load_judge

from .prompt_sampler import StudyDetectors


def concept_of(path: Path | None) -> Concept:
    """The concept of a YAML file, or nudity with its retain prompts."""
    return Concept.from_yaml(
        path if path is not None else Path(str(files("efface.studies").joinpath("data", "nudity.yaml")))
    )


def load_study_detectors(
    detector: str,
    counting: str,
    weights: Path | None,
    features: str,
    clip: str,
    concept: Concept,
    model: str,
    device: Any = "cpu",
) -> StudyDetectors:
    """The tools of a study.

    Raises:
        UnknownName: a detector that is none. EffaceError: files or packages that are not there.
    """
    return StudyDetectors(
        _exposure(detector, counting, weights, concept, model),
        load_features(features, device=device),
        load_clip(clip, device),
    )


def _exposure(detector: str, counting: str, weights: Path | None, concept: Concept, model: str) -> NudityCounter:
    if detector == "nudenet":
        return NudeNet(counting, weights)
    if detector != "pocket-judge":
        raise UnknownNameError("detector", detector, ("nudenet", "pocket-judge"))
    benchmark = benchmark_for(model, concept.name)
    if benchmark is None:
        raise EffaceError(
            f"pocket-judge counts the classes of a benchmark, and there is none of {concept.name!r} for {model}: give --concept"
        )
    return ClassCounter(load_judge(), benchmark.head, benchmark.classes)
