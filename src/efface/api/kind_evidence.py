"""What `evaluate` and `attack` share for erasures of language models and of classifiers: benchmark, evidence, attacks.

A benchmark of either kind has ``name``, ``model``, ``concept``, ``hash``, ``split`` and ``describe()``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from efface.core.attack_set import AttackSet
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.evaluation_evidence import RESULT, attack_results_of, with_attacks
from efface.core.io import atomic_folder
from efface.core.manifest import EVIDENCE, TEXTS
from efface.core.output_files import free_folder
from efface.core.registry import ATTACKS
from efface.core.result import Result
from efface.core.serialization import json_bytes, to_jsonable
from efface.models.model_ref import ModelLike

from .attack_settings import attack_folder, changed_settings
from .evaluation_inputs import current_time, same_result
from .validation import ErasureLike, artifact_folder, load_base, load_erasure

Finder = Callable[[str, str], Any]
"""Returns efface's own benchmark for a model and a concept, or None."""


def check_benchmark(erasure: Erasure, found: Any, names: Sequence[str], any_model: str) -> None:
    """Checks that a benchmark was found, and that it is for an erased concept and the erasure's model.

    Raises:
        EffaceError: it is not; the message lists the shipped ``names``.
    """
    concept, model = erasure.concepts[0].name, erasure.spec.model
    if found is None:
        raise EffaceError(f"no benchmark for {concept!r} on {model}: name one of {', '.join(names)}, or a YAML file")
    if found.concept.name not in [item.name for item in erasure.concepts]:
        raise EffaceError(f"{found.name} is for {found.concept.name!r}, which this erasure does not erase")
    if found.model not in (any_model, model):
        raise EffaceError(f"{found.name} is for {found.model}, not for {model}: choose another --benchmark")


def evaluation_metadata(
    model_name: str, erasure: Erasure, benchmark: Any, find: Finder, limit: int | None
) -> dict[str, Any]:
    """Returns what a result states of its evaluation: model, run, time, and what a verdict must not rest on.

    Args:
        model_name: name of the evaluated model.
        erasure: the erasure.
        benchmark: the benchmark that was used.
        find: finds efface's own benchmark, which a result on another one names.
        limit: the limit, if it left anything out.
    """
    own = find(erasure.spec.model, benchmark.concept.name)
    metadata = {"model": model_name, "erasure_hash": erasure.spec.hash, "created": current_time()}
    metadata |= {"instead_of_benchmark": own.name} if own is not None and own.hash != benchmark.hash else {}
    return metadata | ({"limit": limit} if limit is not None else {})


def save_evaluation(
    artifact: Path, erasure: Erasure, benchmark: Any, result: Result, limit: int | None, files: Mapping[str, bytes]
) -> Result:
    """Saves a result and its files in the erasure's evidence, and returns it with the scores of the saved attacks."""
    name = f"{benchmark.name}-{benchmark.split}-0" + (f"-{limit}" if limit is not None else "")
    folder = free_folder(artifact / EVIDENCE, name, lambda path: same_result(path, result))
    if not folder.exists():
        with atomic_folder(folder) as new:
            for file, data in {RESULT: json_bytes(result.to_dict()), **files}.items():
                (new / file).write_bytes(data)
    return with_attacks(result, attack_results_of(artifact, erasure.spec.hash))


def attack_and_save(
    artifact: ErasureLike, attack: str, config: Mapping[str, Any], preset: str | None, model: ModelLike | None,
    choose: Callable[[Erasure], Any], find: Finder, run: Callable[..., Any], **options: Any,
) -> AttackSet:  # fmt: skip
    """Runs an attack and saves its set, scores and rows in the erasure's evidence.

    Args:
        artifact: the erasure or its folder.
        attack: name of the attack.
        config: settings that the user set.
        preset: name of the preset, or None.
        model: the base model; by default the erasure's own.
        choose: returns the benchmark for the erasure.
        find: finds efface's own benchmark, from which the folder's name notes a difference.
        run: ``attack_language`` or ``attack_classifier``.
        options: further options of ``run``.
    """
    from efface.execution import check_family, resolve_config

    ATTACKS.validate_config(attack, preset, "", config)
    erasure, artifact_path = load_erasure(artifact), artifact_folder(artifact)
    chosen = choose(erasure)
    loaded: Any = load_base(erasure, model)
    function = ATTACKS.get(attack)
    check_family(function, loaded)
    settings, _ = resolve_config(function, preset, loaded.name, config)
    outcome = run(loaded, erasure, chosen, function, settings, **options)
    deviations = changed_settings(function, preset, loaded.name, config)
    deviations |= {"base": loaded.name} if outcome.has_other_base else {}
    attack_set = replace(outcome.attack_set, deviations=deviations, benchmark=chosen.describe())
    own = find(erasure.spec.model, erasure.concepts[0].name)
    other_benchmark = "" if own is not None and own.hash == chosen.hash else chosen.name
    folder = attack_folder(artifact_path, attack_set, erasure.spec.hash, other_benchmark)
    if folder.exists():
        return AttackSet.load(folder)
    outcome = replace(outcome, attack_set=attack_set)
    metadata = {"model": loaded.name, "erasure_hash": erasure.spec.hash, "created": current_time()}
    result = Result(outcome.scores(folder.name), {**metadata, "benchmark": chosen.describe()})
    rows = to_jsonable(outcome.rows(folder.name))
    return attack_set.save(folder, files={RESULT: json_bytes(result.to_dict()), TEXTS: json_bytes(rows)})
