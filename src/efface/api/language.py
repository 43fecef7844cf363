"""The verbs on erasures of language models; `evaluate` and `attack` call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.attack_set import AttackSet
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.evaluation_evidence import RESULT, attack_results_of, with_attacks
from efface.core.io import atomic_folder
from efface.core.manifest import EVIDENCE, LANGUAGE_COMPONENT, TEXTS
from efface.core.output_files import free_folder
from efface.core.registry import ATTACKS
from efface.core.result import Result
from efface.core.serialization import json_bytes, to_jsonable
from efface.models.model_ref import ModelLike

from .attack_settings import attack_folder, changed_settings
from .evaluation_inputs import current_time, same_result
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
    if found is None:
        names = ", ".join(language_benchmark_names())
        raise EffaceError(f"no benchmark for {concept!r} on {model}: name one of {names}, or a YAML file")
    if found.concept.name not in [item.name for item in erasure.concepts]:
        raise EffaceError(f"{found.name} is for {found.concept.name!r}, which this erasure does not erase")
    if found.model not in (ANY_MODEL, model):
        raise EffaceError(f"{found.name} is for {found.model}, not for {model}: choose another --benchmark")
    return found


def evaluate_language_erasure(
    artifact: ErasureLike, benchmark: str | Path | None, limit: int | None, model: ModelLike | None,
    allow_base_mismatch: bool, progress: Progress | None,
) -> Result:  # fmt: skip
    """Evaluates an erasure of a language model and saves result and texts in its evidence (see `evaluate`)."""
    erasure, artifact_path = load_erasure(artifact), artifact_folder(artifact)
    chosen = load_language_benchmark(erasure, benchmark)
    loaded: Any = load_base(erasure, model)
    from efface.benchmarks.language.evaluation import evaluate_language

    metadata = {"model": loaded.name, "erasure_hash": erasure.spec.hash, "created": current_time()}
    own = _own_benchmark(erasure, chosen.concept.name)
    metadata |= {"instead_of_benchmark": own.name} if own is not None and own.hash != chosen.hash else {}
    is_limited = limit is not None and any(len(rows) > limit for rows in chosen.questions.values())
    metadata |= {"limit": limit} if is_limited else {}
    evaluation = evaluate_language(
        loaded, erasure, chosen.limited(limit), allow_base_mismatch=allow_base_mismatch, metadata=metadata,
        progress=progress,
    )  # fmt: skip
    name = f"{chosen.name}-{chosen.split}-0" + (f"-{limit}" if is_limited else "")
    folder = free_folder(artifact_path / EVIDENCE, name, lambda path: same_result(path, evaluation.result))
    if not folder.exists():
        _save(folder, evaluation.result, evaluation.texts)
    return with_attacks(evaluation.result, attack_results_of(artifact_path, erasure.spec.hash))


def attack_language_erasure(
    artifact: ErasureLike, attack: str, benchmark: str | Path | None, config: Mapping[str, Any],
    preset: str | None, seed: int, limit: int | None, model: ModelLike | None, allow_base_mismatch: bool,
    progress: Progress | None,
) -> AttackSet:  # fmt: skip
    """Attacks an erasure of a language model; saves the set, its scores and texts in its evidence (see `attack`)."""
    ATTACKS.validate_config(attack, preset, "", config)
    erasure, artifact_path = load_erasure(artifact), artifact_folder(artifact)
    chosen = load_language_benchmark(erasure, benchmark)
    loaded: Any = load_base(erasure, model)
    from efface.benchmarks.language.attack import attack_language
    from efface.execution import check_family, resolve_config

    function = ATTACKS.get(attack)
    check_family(function, loaded)
    settings, _ = resolve_config(function, preset, loaded.name, config)
    outcome = attack_language(
        loaded, erasure, chosen, function, settings, seed=seed, limit=limit, allow_base_mismatch=allow_base_mismatch,
        progress=progress,
    )  # fmt: skip
    deviations = changed_settings(function, preset, loaded.name, config)
    deviations |= {"base": loaded.name} if outcome.has_other_base else {}
    attack_set = replace(outcome.attack_set, deviations=deviations, benchmark=chosen.describe())
    own = _own_benchmark(erasure, erasure.concepts[0].name)
    other_benchmark = "" if own is not None and own.hash == chosen.hash else chosen.name
    folder = attack_folder(artifact_path, attack_set, erasure.spec.hash, other_benchmark)
    if folder.exists():
        return AttackSet.load(folder)
    outcome = replace(outcome, attack_set=attack_set)
    metadata = {"model": loaded.name, "erasure_hash": erasure.spec.hash, "created": current_time()}
    result = Result(outcome.scores(folder.name), {**metadata, "benchmark": chosen.describe()})
    files = {RESULT: json_bytes(result.to_dict()), TEXTS: json_bytes(to_jsonable(outcome.texts(folder.name)))}
    return attack_set.save(folder, files=files)


def _own_benchmark(erasure: Erasure, concept: str) -> LanguageBenchmark | None:
    """Returns efface's own benchmark for a concept on the erasure's model."""
    from efface.benchmarks.language.benchmark import find_language_benchmark

    return find_language_benchmark(erasure.spec.model, concept)


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


def _save(folder: Path, result: Result, texts: list[dict[str, Any]]) -> None:
    """Writes a result and its texts."""
    with atomic_folder(folder) as new:
        (new / RESULT).write_bytes(json_bytes(result.to_dict()))
        (new / TEXTS).write_bytes(json_bytes(to_jsonable(texts)))
