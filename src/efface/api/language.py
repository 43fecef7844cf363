"""The verbs on erasures of language models; `evaluate` and `attack` call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.attack_label import attack_label
from efface.core.attack_set import AttackSet
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.evaluation_evidence import ATTACKS as ATTACKS_FOLDER
from efface.core.evaluation_evidence import RESULT, is_of_run, read_attack_results, with_attacks
from efface.core.io import atomic_folder
from efface.core.manifest import EVIDENCE, LANGUAGE_COMPONENT, TEXTS
from efface.core.registry import ATTACKS
from efface.core.result import Result
from efface.core.serialization import json_bytes, to_jsonable
from efface.models.model_ref import ModelLike

from .evaluation_inputs import current_time
from .validation import ErasureLike, artifact_folder, load_base, load_erasure

if TYPE_CHECKING:
    from efface.benchmarks.language.benchmark import LanguageBenchmark
    from efface.exporters.formats import Exported
    from efface.ops.training.progress import Progress


def is_language_erasure(artifact: ErasureLike, **image_options: object) -> bool:
    """Returns whether an erasure was made for a language model.

    Raises:
        EffaceError: it was, and an option of image models is given.
    """
    if set(load_erasure(artifact).spec.base) != {LANGUAGE_COMPONENT}:
        return False
    if given := [name for name, value in image_options.items() if value is not None]:
        raise EffaceError(f"--{given[0]} belongs to image models, and this erasure is of a language model: omit it")
    return True


def load_language_benchmark(erasure: Erasure, ref: str | Path | None) -> LanguageBenchmark:
    """Loads a benchmark; by default the one of the erasure's model and first concept.

    Raises:
        EffaceError: there is none, or it is for another concept.
    """
    from efface.benchmarks.language.benchmark import (
        LanguageBenchmark,
        find_language_benchmark,
        language_benchmark_names,
    )

    concept = erasure.concepts[0].name
    found = LanguageBenchmark.load(ref) if ref is not None else find_language_benchmark(erasure.spec.model, concept)
    if found is None:
        names = ", ".join(language_benchmark_names())
        raise EffaceError(f"no benchmark for {concept!r} on {erasure.spec.model}: name one of {names}, or a YAML file")
    if found.concept.name not in [item.name for item in erasure.concepts]:
        raise EffaceError(f"{found.name} is for {found.concept.name!r}, which this erasure does not erase")
    return found


def evaluate_language_erasure(
    artifact: ErasureLike, benchmark: str | Path | None, limit: int | None, model: ModelLike | None,
    allow_base_mismatch: bool, progress: Progress | None,
) -> Result:  # fmt: skip
    """Evaluates an erasure of a language model and saves result and texts in its evidence (see `evaluate`)."""
    erasure, folder = load_erasure(artifact), artifact_folder(artifact)
    chosen = load_language_benchmark(erasure, benchmark)
    loaded: Any = load_base(erasure, model)
    from efface.benchmarks.language.evaluation import evaluate_language

    metadata = {"model": loaded.name, "erasure_hash": erasure.spec.hash, "created": current_time()}
    is_limited = limit is not None and any(len(rows) > limit for rows in chosen.questions.values())
    metadata |= {"limit": limit} if is_limited else {}
    evaluation = evaluate_language(
        loaded, erasure, chosen.limited(limit), allow_base_mismatch=allow_base_mismatch, metadata=metadata,
        progress=progress,
    )  # fmt: skip
    name = f"{chosen.name}-test-0" + (f"-{limit}" if is_limited else "")
    _save(folder / EVIDENCE / name, evaluation.result, evaluation.texts)
    saved = read_attack_results(folder)
    attacks = {label: item for label, item in saved.items() if is_of_run(item, erasure.spec.hash)}
    return with_attacks(evaluation.result, attacks)


def attack_language_erasure(
    artifact: ErasureLike, attack: str, benchmark: str | Path | None, config: Mapping[str, Any], preset: str | None,
    seed: int, limit: int | None, model: ModelLike | None, allow_base_mismatch: bool, progress: Progress | None,
) -> AttackSet:  # fmt: skip
    """Attacks an erasure of a language model; saves the set, its scores and texts in its evidence (see `attack`)."""
    ATTACKS.validate_config(attack, preset, "", config)
    erasure, folder = load_erasure(artifact), artifact_folder(artifact)
    chosen = load_language_benchmark(erasure, benchmark)
    loaded: Any = load_base(erasure, model)
    from efface.benchmarks.language.attack import attack_language
    from efface.execution import check_family, resolve_config

    function = ATTACKS.get(attack)
    check_family(function, loaded)
    settings, used = resolve_config(function, preset, loaded.name, config)
    changed = {**({"preset": used} if used != "paper" else {}), **config}
    is_limited = limit is not None and limit < len(chosen.questions["name"])
    label = attack_label(attack, ({"seed": seed} if seed else {}) | changed | ({"limit": limit} if is_limited else {}))
    attack_set, scores, texts = attack_language(
        loaded, erasure, chosen, function, settings, seed=seed, limit=limit, allow_base_mismatch=allow_base_mismatch,
        label=label, progress=progress,
    )  # fmt: skip
    source = {"name": chosen.name, "hash": chosen.hash, "prompts_hash": chosen.hash, "split": "test"}
    attack_set = replace(attack_set, deviations=changed, benchmark=source, limit=limit if is_limited else None)
    metadata = {"model": loaded.name, "erasure_hash": erasure.spec.hash, "created": current_time(),
                "benchmark": {"name": chosen.name, "concept": chosen.concept.name, "split": "test"}}  # fmt: skip
    result = Result(scores, metadata)
    target = folder / EVIDENCE / ATTACKS_FOLDER / label
    files = {RESULT: json_bytes(result.to_dict()), TEXTS: json_bytes(to_jsonable(texts))}
    return AttackSet.load(target) if target.exists() else attack_set.save(target, files=files)


def export_language_erasure(
    erasure: Erasure, out: Path, format: str, model: ModelLike | None, allow_base_mismatch: bool, overwrite: bool
) -> Exported:
    """Exports the edited language model as a folder (see `export`)."""
    from efface.exporters.formats import language_format
    from efface.exporters.language import write_language_export

    language_format(format)
    loaded: Any = load_base(erasure, model)
    return write_language_export(loaded, erasure, out, allow_base_mismatch, overwrite)


def _save(folder: Path, result: Result, texts: list[dict[str, Any]]) -> None:
    """Writes a result and its texts; an existing evaluation of the same erasure and benchmark is replaced."""
    with atomic_folder(folder, replace=True) as new:
        (new / RESULT).write_bytes(json_bytes(result.to_dict()))
        (new / TEXTS).write_bytes(json_bytes(to_jsonable(texts)))
