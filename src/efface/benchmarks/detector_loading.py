"""Load a benchmark's detector, CLIP model and feature network by name (`efface.benchmarks.detector_names`)."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.errors import EffaceError
from efface.core.score import DetectorId
from efface.detectors.fid_weights import check_safetensors

from .benchmark import Benchmark
from .detector_names import POCKET_CLIP, POCKET_JUDGE, DetectorSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

INPUT_SIZES = {POCKET_JUDGE: 64, POCKET_CLIP: 64, f"zero-shot:{POCKET_CLIP}": 64}
"""Height and width in pixels of the images that these detectors accept; the others accept any size."""


def load_detector(benchmark: Benchmark, device: torch.device | str = "cpu") -> Any:
    """Load the benchmark's detector; pocket's judge and NudeNet run on the CPU, the others on the device.

    Raises:
        EffaceError: it cannot be loaded, or lacks a head or class that the benchmark expects.
    """
    spec = DetectorSpec.parse(benchmark.detector)
    required = required_classes(benchmark)
    detector = _build_detector(spec, required, device)
    if missing := sorted(set(required).difference(detector.thresholds)):
        heads = ", ".join(detector.thresholds)
        raise EffaceError(
            f"{benchmark.detector} reports {heads}, but {benchmark.name} expects {', '.join(missing)}: "
            "choose another detector"
        )
    classes = detector.classes
    by_head = classes if isinstance(classes, dict) else dict.fromkeys(detector.thresholds, classes)
    for head, names in required.items():
        _check_classes(benchmark, names, by_head[head])
    return detector


def _check_classes(benchmark: Benchmark, required: tuple[str, ...], available: Any) -> None:
    unknown = sorted(set(required).difference(available))
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], available, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "its config.json lists its classes"
    raise EffaceError(f"{benchmark.detector} has no class {unknown[0]!r}, which {benchmark.name} expects: {hint}")


def _build_detector(spec: DetectorSpec, required: dict[str, tuple[str, ...]], device: torch.device | str) -> Any:
    threshold = spec.threshold or 0.0
    if spec.kind == POCKET_JUDGE:
        from efface.detectors.pocket_judge import load_judge

        return load_judge()
    if spec.kind == "nudenet":
        from efface.detectors.nudenet import NudeNet
        from efface.detectors.nudity_presence import NudityPresence

        return NudityPresence(NudeNet(spec.source))
    if spec.kind == "zero-shot":
        from efface.detectors.zero_shot import ZeroShotClassifier

        return ZeroShotClassifier(load_clip(spec.source, device), required, threshold)
    from efface.detectors.classifier import ImageClassifier
    from efface.models.hub import pretrained_folder

    display_name = "" if Path(spec.source).is_dir() else spec.source
    return ImageClassifier(pretrained_folder(spec.source), display_name, threshold, device)


def load_clip(name: str, device: torch.device | str = "cpu") -> Any:
    """Load the scorer of images with prompts: pocket's CLIP on the CPU, or a CLIP model's own towers on the device."""
    from efface.detectors.zero_shot import load_scorer

    return load_scorer(name, "cpu" if name == POCKET_CLIP else device)


def load_features(name: str, detector: Any = None, device: torch.device | str = "cpu") -> Any:
    """Load a feature network.

    Args:
        name: a ``.safetensors`` file (FID's Inception), a ``.onnx`` file, ``pocket-judge``, or ``""`` for the
            detector's own.
        detector: the detector whose features ``""`` takes.
        device: where FID's Inception runs.

    Returns:
        A function of images ``(N, 3, H, W)`` in [0, 1] to features ``(N, d)``, with its id as ``detector``.

    Raises:
        EffaceError: the detector has no features, or the file is not a feature network.
    """
    if name == POCKET_JUDGE:
        from efface.detectors.pocket_judge import load_judge

        return DetectorFeatures(load_judge())
    if not name:
        if not hasattr(detector, "features"):
            raise EffaceError(
                f"{detector.id} gives no features for FID: name a network with --features FILE.safetensors or FILE.onnx"
            )
        return DetectorFeatures(detector)
    if name.endswith(".onnx"):
        from efface.detectors.onnx_features import OnnxFeatures

        return OnnxFeatures(name)
    check_safetensors(Path(name))
    from efface.detectors.inception_features import InceptionFeatures

    return InceptionFeatures(name, device)


class DetectorFeatures:
    """The features of a detector as a feature network.

    Args:
        detector: a detector with ``id`` and ``features``.
    """

    def __init__(self, detector: Any) -> None:
        self._detector = detector
        name, _, version = detector.id.partition("@")
        self.detector = DetectorId(name, version)

    def __call__(self, images: Tensor) -> Tensor:
        """Features ``(N, d)`` of images ``(N, 3, H, W)`` in [0, 1]."""
        features: Tensor = self._detector.features(images)
        return features


def required_classes(benchmark: Benchmark) -> dict[str, tuple[str, ...]]:
    """For each head, the classes that the benchmark expects or counts as the concept, in the order of the samples."""
    required: dict[str, dict[str, None]] = {benchmark.head: dict.fromkeys(benchmark.classes)}
    for split in benchmark.splits:
        for sample in benchmark.samples(split):
            for head, classes in sample.expected.items():
                required.setdefault(head, {}).update(dict.fromkeys(classes))
    return {head: tuple(classes) for head, classes in required.items()}
