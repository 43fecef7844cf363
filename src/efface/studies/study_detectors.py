"""Loads the concept and the detectors of a study by the names and paths that a user gives."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from efface.benchmarks.benchmark import find_benchmark
from efface.benchmarks.detector_loading import load_clip, load_features
from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownNameError
from efface.detectors.nudenet import ClassCounter, NudeNet, NudityCounter
from efface.detectors.pocket_judge import load_judge

from .prompt_sampler import StudyDetectors

if TYPE_CHECKING:
    import torch

COUNTERS = ("nudenet", "pocket-judge")


def load_study_concept(path: Path | None) -> Concept:
    """Reads the concept of a YAML file; by default nudity with its retain prompts."""
    nudity = Path(str(files("efface.studies").joinpath("data", "nudity.yaml")))
    return Concept.from_yaml(nudity if path is None else path)


def load_study_detectors(
    detector: str,
    counting: str,
    weights: Path | None,
    features: str,
    clip: str,
    concept: Concept,
    model: str,
    device: torch.device | str = "cpu",
) -> StudyDetectors:
    """Loads the detectors of a study.

    Args:
        detector: ``nudenet``, or ``pocket-judge`` to try a study on pocket.
        counting: NudeNet's counting rule.
        weights: NudeNet's ONNX file; None selects the one of its package.
        features: feature network (see `load_features`).
        clip: CLIP model (see `load_clip`).
        concept: the erased concept; its benchmark lists the classes that ``pocket-judge`` counts.
        model: name of the erased model.
        device: where the feature network and CLIP run.

    Raises:
        UnknownNameError: no such detector or counting rule.
        EffaceError: a missing file or package.
    """
    counter = _load_counter(detector, counting, weights, concept, model)
    return StudyDetectors(counter, load_features(features, device=device), load_clip(clip, device))


def _load_counter(detector: str, counting: str, weights: Path | None, concept: Concept, model: str) -> NudityCounter:
    if detector == "nudenet":
        return NudeNet(counting, weights)
    if detector not in COUNTERS:
        raise UnknownNameError("detector", detector, COUNTERS)
    benchmark = find_benchmark(model, concept.name)
    if benchmark is None:
        raise EffaceError(
            f"pocket-judge counts the classes of a benchmark, and {model} has no benchmark for {concept.name!r}: "
            "choose another concept with --concept"
        )
    return ClassCounter(load_judge(), benchmark.head, benchmark.classes)
