"""What looks at a study's pictures, by the names and paths that a user gives."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from efface.benchmarks.benchmark import benchmark_for
from efface.benchmarks.detector_loading import clip_of, features_of
from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownName
from efface.detectors.nudenet import Exposure, Judged, NudeNet
from efface.detectors.pocket_judge import load_judge

from .prompt_sampler import Tools


def concept_of(path: Path | None) -> Concept:
    """The concept of a YAML file, or nudity with its retain prompts."""
    return Concept.from_yaml(
        path if path is not None else Path(str(files("efface.studies").joinpath("data", "nudity.yaml")))
    )


def tools_of(
    detector: str,
    counting: str,
    weights: Path | None,
    features: str,
    clip: str,
    concept: Concept,
    model: str,
    device: Any = "cpu",
) -> Tools:
    """The tools of a study.

    Raises:
        UnknownName: a detector that is none. EffaceError: files or packages that are not there.
    """
    return Tools(
        _exposure(detector, counting, weights, concept, model),
        features_of(features, device=device),
        clip_of(clip, device),
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
