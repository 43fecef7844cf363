"""The verbs on erasures of image classifiers; `evaluate`, `attack` and `export` call them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.attack_set import AttackSet
from efface.core.erasure import Erasure
from efface.core.manifest import CLASSIFIER_COMPONENT, TEXTS
from efface.core.result import Result
from efface.core.serialization import json_bytes, to_jsonable
from efface.models.model_ref import ModelLike

from .kind_evidence import attack_and_save, check_benchmark, evaluation_metadata, save_evaluation
from .validation import ErasureLike, artifact_folder, is_erasure_of, load_base, load_erasure

if TYPE_CHECKING:
    from efface.benchmarks.classifier.benchmark import ClassifierBenchmark
    from efface.exporters.formats import Exported
    from efface.ops.training.progress import Progress


def is_classifier_erasure(artifact: ErasureLike, **image_options: object) -> bool:
    """Returns whether an erasure was made for an image classifier.

    Raises:
        EffaceError: it was, and an option of image models is given.
    """
    return is_erasure_of(CLASSIFIER_COMPONENT, "a classifier", artifact, image_options)


def load_classifier_benchmark(erasure: Erasure, ref: str | Path | None) -> ClassifierBenchmark:
    """Loads a benchmark; by default the one of the erasure's model and first concept.

    Raises:
        EffaceError: no such benchmark, or one for another concept or model.
    """
    from efface.benchmarks.classifier.benchmark import (
        ANY_MODEL,
        ClassifierBenchmark,
        classifier_benchmark_names,
        find_classifier_benchmark,
    )

    concept, model = erasure.concepts[0].name, erasure.spec.model
    found = ClassifierBenchmark.load(ref) if ref is not None else find_classifier_benchmark(model, concept)
    check_benchmark(erasure, found, classifier_benchmark_names(), ANY_MODEL)
    assert found is not None
    return found


def evaluate_classifier_erasure(
    artifact: ErasureLike, benchmark: str | Path | None, limit: int | None, model: ModelLike | None,
    allow_base_mismatch: bool, progress: Progress | None,
) -> Result:  # fmt: skip
    """Evaluates an erasure of a classifier and saves result and predictions in its evidence (see `evaluate`)."""
    erasure, artifact_path = load_erasure(artifact), artifact_folder(artifact)
    chosen = load_classifier_benchmark(erasure, benchmark)
    loaded: Any = load_base(erasure, model)
    from efface.benchmarks.classifier.benchmark import find_classifier_benchmark
    from efface.benchmarks.classifier.evaluation import evaluate_classifier
    from efface.benchmarks.classifier.retrained import FILE

    evaluation = evaluate_classifier(
        loaded, erasure, chosen, limit=limit, allow_base_mismatch=allow_base_mismatch, progress=progress,
        metadata=evaluation_metadata(loaded.name, erasure, chosen, find_classifier_benchmark, limit),
    )  # fmt: skip
    files = {TEXTS: json_bytes(to_jsonable(evaluation.rows)), FILE: evaluation.predictions}
    return save_evaluation(artifact_path, erasure, chosen, evaluation.result, limit, files)


def attack_classifier_erasure(
    artifact: ErasureLike, attack: str, benchmark: str | Path | None, config: Mapping[str, Any], preset: str | None,
    seed: int, limit: int | None, model: ModelLike | None, allow_base_mismatch: bool, progress: Progress | None,
) -> AttackSet:  # fmt: skip
    """Attacks an erasure of a classifier; saves the set, its scores and predictions in its evidence (see `attack`)."""
    from efface.benchmarks.classifier.attack import attack_classifier
    from efface.benchmarks.classifier.benchmark import find_classifier_benchmark

    return attack_and_save(
        artifact, attack, config, preset, model, lambda erasure: load_classifier_benchmark(erasure, benchmark),
        find_classifier_benchmark, attack_classifier, seed=seed, limit=limit, allow_base_mismatch=allow_base_mismatch,
        progress=progress,
    )  # fmt: skip


def export_classifier_erasure(
    erasure: Erasure, out: Path, format: str, model: ModelLike | None, allow_base_mismatch: bool, overwrite: bool
) -> Exported:
    """Exports the edited classifier as a folder (see `export`)."""
    from efface.exporters.classifier import write_classifier_export
    from efface.exporters.formats import whole_model_format

    whole_model_format(format, "a classifier")
    loaded: Any = load_base(erasure, model)
    return write_classifier_export(loaded, erasure, out, allow_base_mismatch, overwrite)
