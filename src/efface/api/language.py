"""The verbs on erasures of language models; `evaluate` and `attack` call them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.attack_set import AttackSet
from efface.core.erasure import Erasure
from efface.core.manifest import LANGUAGE_COMPONENT, TEXTS
from efface.core.result import Result
from efface.core.serialization import json_bytes, to_jsonable
from efface.models.model_ref import ModelLike

from .kind_evidence import attack_and_save, check_benchmark, evaluation_metadata, save_evaluation
from .validation import ErasureLike, artifact_folder, is_erasure_of, load_base, load_erasure

if TYPE_CHECKING:
    from efface.benchmarks.language.benchmark import LanguageBenchmark
    from efface.exporters.formats import Exported
    from efface.ops.training.progress import Progress


def is_language_erasure(artifact: ErasureLike, **image_options: object) -> bool:
    """Returns whether an erasure was made for a language model.

    Raises:
        EffaceError: it was, and an option of image models is given.
    """
    return is_erasure_of(LANGUAGE_COMPONENT, "a language model", artifact, image_options)


def load_language_benchmark(erasure: Erasure, ref: str | Path | None) -> LanguageBenchmark:
    """Loads a benchmark; by default the one of the erasure's model and first concept.

    Raises:
        EffaceError: no such benchmark, or one for another concept or model.
    """
    from efface.benchmarks.language.benchmark import (
        ANY_MODEL,
        LanguageBenchmark,
        find_language_benchmark,
        language_benchmark_names,
    )

    concept, model = erasure.concepts[0].name, erasure.spec.model
    found = LanguageBenchmark.load(ref) if ref is not None else find_language_benchmark(model, concept)
    check_benchmark(erasure, found, language_benchmark_names(), ANY_MODEL)
    assert found is not None
    return found


def evaluate_language_erasure(
    artifact: ErasureLike, benchmark: str | Path | None, limit: int | None, model: ModelLike | None,
    allow_base_mismatch: bool, progress: Progress | None,
) -> Result:  # fmt: skip
    """Evaluates an erasure of a language model and saves result and texts in its evidence (see `evaluate`)."""
    erasure, artifact_path = load_erasure(artifact), artifact_folder(artifact)
    chosen = load_language_benchmark(erasure, benchmark)
    loaded: Any = load_base(erasure, model)
    from efface.benchmarks.language.benchmark import find_language_benchmark
    from efface.benchmarks.language.evaluation import evaluate_language

    is_limited = limit is not None and any(len(rows) > limit for rows in chosen.questions.values())
    used_limit = limit if is_limited else None
    evaluation = evaluate_language(
        loaded, erasure, chosen.limited(limit), allow_base_mismatch=allow_base_mismatch, progress=progress,
        metadata=evaluation_metadata(loaded.name, erasure, chosen, find_language_benchmark, used_limit),
    )  # fmt: skip
    files = {TEXTS: json_bytes(to_jsonable(evaluation.texts))}
    return save_evaluation(artifact_path, erasure, chosen, evaluation.result, used_limit, files)


def attack_language_erasure(
    artifact: ErasureLike, attack: str, benchmark: str | Path | None, config: Mapping[str, Any],
    preset: str | None, seed: int, limit: int | None, model: ModelLike | None, allow_base_mismatch: bool,
    progress: Progress | None,
) -> AttackSet:  # fmt: skip
    """Attacks an erasure of a language model; saves the set, its scores and texts in its evidence (see `attack`)."""
    from efface.benchmarks.language.attack import attack_language
    from efface.benchmarks.language.benchmark import find_language_benchmark

    return attack_and_save(
        artifact, attack, config, preset, model, lambda erasure: load_language_benchmark(erasure, benchmark),
        find_language_benchmark, attack_language, seed=seed, limit=limit, allow_base_mismatch=allow_base_mismatch,
        progress=progress,
    )  # fmt: skip


def export_language_erasure(
    erasure: Erasure, out: Path, format: str, model: ModelLike | None, allow_base_mismatch: bool, overwrite: bool
) -> Exported:
    """Exports the edited language model, or the erasure as a PEFT adapter, as a folder (see `export`)."""
    from efface.exporters.formats import whole_model_format
    from efface.exporters.language import check_language_adapter, write_language_adapter, write_language_export

    if format == "peft":
        check_language_adapter(erasure)
    else:
        whole_model_format(format, "a language model")
    write = write_language_adapter if format == "peft" else write_language_export
    return write(load_base(erasure, model), erasure, out, allow_base_mismatch, overwrite)  # type: ignore[arg-type]
