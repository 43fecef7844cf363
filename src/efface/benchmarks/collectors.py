"""Run a benchmark's detectors on images as they are generated: the judge on all, CLIP and features where scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.score import DetectorId
from efface.metrics.clip_score import ClipScoreAccumulator
from efface.metrics.detections import Detections, EvalPrompt
from efface.metrics.erasure_retention import RETAINED_GROUPS
from efface.metrics.kid import FeatureStream
from efface.models.editable import EditableModel

from .benchmark import Benchmark
from .detector_loading import INPUT_SIZES, load_clip, load_detector, load_features
from .detector_names import validate_detector_names
from .evaluation import SampleKey, sample_key
from .samples import EvalSample


@dataclass
class MetricCollector:
    """Collects what the metrics need from one model's images.

    Attributes:
        detections: the detector's reports.
        clip_scores: CLIP scores of each retained group.
        feature_stream: features of the retained groups' images.
        detector: the benchmark's detector.
        feature_network: network of the features; None takes the detector's own.
        saved_images: bytes ``(3, H, W)`` of the images to save as evidence.
    """

    detections: Detections
    clip_scores: dict[str, ClipScoreAccumulator]
    feature_stream: FeatureStream
    detector: Any
    feature_network: Any
    saved_images: dict[SampleKey, Tensor]

    @classmethod
    def for_benchmark(cls, benchmark: Benchmark, device: torch.device | str = "cpu") -> MetricCollector:
        """An empty collector with the benchmark's detectors on a device."""
        validate_detector_names(benchmark)
        detector, clip = load_detector(benchmark, device), load_clip(benchmark.clip, device)
        network = load_features(benchmark.features, device=device) if benchmark.features else None
        clip_scores = {group: ClipScoreAccumulator(clip) for group in RETAINED_GROUPS}
        return cls(Detections(detector), clip_scores, FeatureStream(), detector, network, {})

    @property
    def feature_id(self) -> DetectorId:
        """Name and version of the network that computes the features."""
        if self.feature_network is not None:
            network_id: DetectorId = self.feature_network.detector
            return network_id
        name, _, version = self.detector.id.partition("@")
        return DetectorId(name, version)

    def fresh_copy(self) -> MetricCollector:
        """An empty collector with the same detectors."""
        clip_scores = {group: ClipScoreAccumulator(scores.scorer) for group, scores in self.clip_scores.items()}
        detections = Detections(self.detector)
        return MetricCollector(detections, clip_scores, FeatureStream(), self.detector, self.feature_network, {})

    def update(self, samples: Sequence[EvalSample], images: Tensor, save_keys: set[SampleKey]) -> None:
        """Collect from one batch.

        Args:
            samples: the batch's samples.
            images: their images ``(B, 3, H, W)`` in [0, 1].
            save_keys: samples whose images are saved.
        """
        judgement = self.detections.update(images, [to_eval_prompt(sample) for sample in samples])
        for group, scores in self.clip_scores.items():
            in_group = [i for i, sample in enumerate(samples) if sample.group == group]
            scores.update(images[in_group], [samples[i].prompt for i in in_group])
        self._add_features(samples, images, getattr(judgement, "features", None))
        self.saved_images |= {
            sample_key(sample): (image * 255).round().to(torch.uint8)
            for sample, image in zip(samples, images, strict=True)
            if sample_key(sample) in save_keys
        }

    def _add_features(self, samples: Sequence[EvalSample], images: Tensor, detector_features: Tensor | None) -> None:
        """Add the features of the retained groups' images, from the network or the detector."""
        retained = [i for i, sample in enumerate(samples) if sample.group in RETAINED_GROUPS]
        if not retained:
            return
        prompts = [samples[i].prompt for i in retained]
        if self.feature_network is not None:
            self.feature_stream.update(self.feature_network(images[retained]), prompts)
        elif detector_features is not None:
            self.feature_stream.update(detector_features[retained], prompts)


def check_image_size(model: EditableModel, benchmark: Benchmark) -> None:
    """Raises `EffaceError` unless the model's images have the size that the benchmark's detectors accept."""
    for name in (benchmark.detector, benchmark.clip):
        required = INPUT_SIZES.get(name.partition("@")[0])
        side = model.image_size
        if required is not None and side != required:
            raise EffaceError(
                f"{name} needs images of {required} x {required}, {model.name} makes {side} x {side}: "
                "use another benchmark, or another detector with --detector and --clip"
            )


def to_eval_prompt(sample: EvalSample) -> EvalPrompt:
    """Convert a sample to the prompt that the metrics use."""
    return EvalPrompt(sample.prompt, sample.seed, sample.group, sample.expected)


def add_detections(detections: Detections, samples: Sequence[EvalSample], images: Tensor) -> None:
    """Adds what a detector reads of a batch of images."""
    detections.update(images, [to_eval_prompt(sample) for sample in samples])
