"""Evaluates an erasure of a classifier: accuracy, retention, membership inference, distance to retraining."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from efface.core.erasure import Erasure
from efface.core.result import DetectorId, Provenance, Result, Score
from efface.core.seeds import derive_seed
from efface.models.classifier import ClassifierModel
from efface.ops.classifiers.predictions import Predictions, predict
from efface.ops.editing.apply import applied
from efface.ops.training.progress import Progress, Silent

from .benchmark import ClassifierBenchmark
from .groups import NAME, OTHER, SEEN, benchmark_images
from .membership import membership_auc
from .retrained import Retrained, predictions_file

TOP1 = DetectorId("label", "1")
"""The images' own labels, with which predictions are compared."""
CONCEPT_GROUPS = (NAME, SEEN)
By = Mapping[str, Predictions]


@dataclass(frozen=True)
class ClassifierEvaluation:
    """A result with rows of single images and the file of predictions."""

    result: Result
    rows: list[dict[str, Any]]
    predictions: bytes = field(repr=False)


def evaluate_classifier(
    model: ClassifierModel, erasure: Erasure, benchmark: ClassifierBenchmark, *, limit: int | None = None,
    allow_base_mismatch: bool = False, metadata: Mapping[str, Any] | None = None, progress: Progress | None = None,
) -> ClassifierEvaluation:  # fmt: skip
    """Classifies all images before and after an erasure and computes the scores.

    Args:
        model: the base model.
        erasure: the erasure.
        benchmark: the benchmark.
        limit: largest number of images of a group.
        allow_base_mismatch: accept a base model other than the erasure's own.
        metadata: further entries of the result's metadata.
        progress: progress display.
    """
    groups, shown = benchmark_images(benchmark, model).limited(limit).groups, progress or Silent()

    def classify(phase: str) -> dict[str, Predictions]:
        shown.start(phase, len(groups), 0)
        try:
            found = {}
            for number, (name, images) in enumerate(groups.items(), 1):
                found[name] = predict(model, images)
                shown.update(number, {})
            return found
        finally:
            shown.stop()

    before = classify("predictions before")
    with applied(model, erasure, allow_base_mismatch) as record:
        after = classify("predictions after")
    retrained = Retrained.load(benchmark.retrained) if benchmark.retrained and limit is None else None
    seconds = erasure.cost.seconds if erasure.cost is not None else None
    scores = classifier_scores(before, after, retrained, seconds)
    about = {"benchmark": benchmark.describe(), "seed": 0} | ({"base_mismatch": True} if record.base_mismatch else {})
    rows = [row for name in groups for row in before[name].rows(after[name], name, model.classes)]
    result = Result(scores, {**about, **(metadata or {})})
    return ClassifierEvaluation(result, rows, predictions_file(after, seconds or 0.0))


def classifier_scores(
    before: By, after: By, retrained: Retrained | None = None, seconds: float | None = None
) -> tuple[Score, ...]:
    """Returns all scores.

    RER and retention compare right predictions; ``context`` is the share of the confidence in the right class that
    remains on images of other classes, at most 1 for each image.
    """
    scores: list[Score] = []
    for group, old in before.items():
        new, metric = after[group], "rer" if group in CONCEPT_GROUPS else "retention"
        kind = Score.relative_erasure_rate if group in CONCEPT_GROUPS else Score.retention_ratio
        rows = list(range(len(old)))
        right = (old.right.double().numpy(), new.right.double().numpy())
        scores.append(kind(metric, group, *right, rows, _rng(group), TOP1, Provenance()))
        for suffix, item in (("_before", old), ("", new)):
            scores.append(Score.rate(f"accuracy{suffix}", group, item.num_right, len(item), TOP1, Provenance()))
            scores.append(_mean(f"entropy{suffix}", group, item.entropy))
        if retrained is not None:
            for suffix, item in (("_before", old), ("", new)):
                scores.append(_mean(f"distance_to_retrained{suffix}", group, retrained.distances(group, item)))
    if OTHER in before:
        kept = (after[OTHER].confidence / before[OTHER].confidence.clamp(min=1e-12)).clamp(max=1)
        scores.append(_mean("retention", "context", kept))
    scores += _membership(before, after)
    if retrained is not None and seconds:
        scores.append(Score("time_share_of_retraining", "all", seconds / retrained.seconds, None, None, 1))
    return tuple(scores)


def _membership(before: By, after: By) -> list[Score]:
    """Returns the areas under the ROC curve; none where test images of the concept are its training images."""
    if not {NAME, SEEN} <= set(before) or torch.equal(before[NAME].probabilities, before[SEEN].probabilities):
        return []
    n = len(before[NAME]) + len(before[SEEN])
    return [
        Score(f"membership_{kind}{suffix}", SEEN, value, None, None, n)
        for suffix, item in (("_before", before), ("", after))
        for kind, value in membership_auc(item[SEEN], item[NAME]).items()
    ]


def _mean(metric: str, group: str, values: torch.Tensor) -> Score:
    numbers = values.double().numpy()
    return Score.mean(metric, group, numbers, list(range(len(numbers))), _rng(f"{metric} {group}"), TOP1, Provenance())


def _rng(label: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(0, "classifier bootstrap", label) % 2**32)
