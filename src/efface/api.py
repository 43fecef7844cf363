"""The verbs: erase, attack, evaluate, transfer, revise, export, report. Each returns the saved, typed object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.carry import export, revise, transfer
from efface.checks import (
    artifact_and_benchmark,
    attack_sets,
    check_before,
    looking_for,
    painter_for,
    with_retain_sets,
)
from efface.core import ranks
from efface.core.attack_set import AttackSet, Task
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.manifest import EVIDENCE
from efface.core.registry import ATTACKS, METHODS
from efface.core.result import Result
from efface.models.load import ModelLike, load_model

__all__ = ["attack", "erase", "evaluate", "export", "report", "revise", "transfer"]

if TYPE_CHECKING:
    from efface.benchmarks.protocol import Benchmark
    from efface.ops.progress import Progress


def erase(
    concepts: str | Concept | Sequence[str | Concept], *, out: str | Path, model: ModelLike = "pocket", method: str = "esd",
    preset: str | None = None, config: Mapping[str, Any] | None = None, seed: int = 0, resume: bool = False, overwrite: bool = False,
    progress: Progress | None = None,
) -> Erasure:  # fmt: skip
    """Erase concepts from a model and save the erasure; the model itself stays as it is.

    Args:
        concepts: what to erase: names or :class:`Concept`, one or several. On an embedded model, a concept without a retain set is given
            the model's own, without the prompts that mention the concept.
        out: the artifact's folder.
        model: whatever `efface.load_model` takes, or a `ModelRef`, which says how to load it, too.
        method: a registered method's name.
        preset: one of the method's presets; by default that of the model's name where there is one, else ``paper``.
        config: fields of the method's configuration to set otherwise.
        seed: root seed.
        resume: go on from the checkpoints of a run that was interrupted.
        overwrite: replace an erasure that is there.
        progress: where to show progress; nowhere by default.

    Returns:
        The erasure as it lies in ``out``, with the effect check in ``effect``.

    Raises:
        EffaceError: whatever a user can cure, before any work where that can be known.
    """
    given = [concepts] if isinstance(concepts, str | Concept) else list(concepts)
    wanted = tuple(Concept.of(c) for c in given)
    check_before(wanted, out=Path(out), model=model, method=method, preset=preset, config=config, overwrite=overwrite)
    loaded = load_model(model)
    from efface.making import make  # imports torch: after the checks

    wanted = with_retain_sets(wanted, loaded.name)
    return make(
        loaded, wanted, Path(out), METHODS.get(method), preset=preset, overrides=dict(config or {}), seed=seed, resume=resume,
        overwrite=overwrite, progress=progress,
    )  # fmt: skip


def evaluate(
    artifact: str | Path, benchmark: str | Path | None = None, *, part: str = "test", seed: int | None = None, limit: int | None = None,
    fid: int | None = None, detector: str | None = None, clip: str | None = None, features: str | None = None,
    model: ModelLike | None = None, force: bool = False, keep: bool = True, progress: Progress | None = None,
) -> Result:  # fmt: skip
    """Evaluate an erasure on a benchmark, with every attack set that lies in its evidence; the result is saved there.

    Args:
        artifact: the erasure's folder.
        benchmark: a benchmark's name or YAML file; by default the one of its model and concept.
        part: ``test``, or ``dev`` to choose hyper-parameters.
        seed: the first picture's; the part's own by default.
        limit: at most so many pictures a group.
        fid: so many pictures of unrelated prompts for an FID, at least 2,000, beside the unedited model's own with other seeds.
        detector: what looks at the pictures in place of the benchmark's own (`efface.benchmarks.looks`).
        clip: the CLIP score's model likewise.
        features: FID's and KID's network likewise.
        model: the base model; by default the one that the erasure was made for.
        force: whether it may be another one.
        keep: whether pictures are kept in the cache.
        progress: where to show progress.

    Returns:
        The result, as saved in ``<artifact>/evidence/<benchmark>-<part>-<seed>/result.json``; more in the name where other things look.

    Raises:
        EffaceError: an unknown benchmark, a damaged artifact, another base.
    """
    looks = {"detector": detector, "clip": clip, "features": features}
    erasure, found = artifact_and_benchmark(artifact, benchmark, part, looks)
    painter, progress = painter_for(found, erasure, model, force, keep), progress if ranks.is_main() else None
    from efface.benchmarks.distance import distance
    from efface.benchmarks.runner import run_benchmark
    from efface.models.processes import in_step

    attacks = [looking_for(a, found) for a in attack_sets(Path(artifact))]
    about = {"model": painter.model.name, "run": erasure.spec.hash, "made": _now()}
    more = distance(found, painter, erasure, pictures=fid, part=part, progress=progress) if fid is not None else []
    done = run_benchmark(found, painter, erasure, part=part, seed=seed, limit=limit, attacks=attacks, progress=progress, about=about)
    done.result = replace(done.result, scores=(*done.result.scores, *more))
    name = f"{found.name}-{part}-{done.result.about['seed']}" + (f"-{limit}" if limit is not None else "")
    name += f"-{found.hash[:8]}" if any(looks.values()) else ""
    with in_step():
        if ranks.is_main():
            done.save(Path(artifact) / EVIDENCE / name)
    return done.result


def attack(
    artifact: str | Path, attack: str = "synonyms", benchmark: str | Path | None = None, *, part: str = "test",
    config: Mapping[str, Any] | None = None, preset: str | None = None, replay: str | Path | None = None, seed: int = 0,
    limit: int | None = None, detector: str | None = None, model: ModelLike | None = None, force: bool = False,
    progress: Progress | None = None,
) -> AttackSet:  # fmt: skip
    """Attack an erasure; what was found is saved in its evidence, with how often it brought the concept back.

    Args:
        artifact: the erasure's folder.
        attack: a registered attack's name.
        benchmark: where prompts and detector come from; by default the one of the erasure's model and concept.
        part: of the benchmark.
        config: fields of the attack's configuration to set otherwise.
        preset: one of the attack's presets; by default that of the model's name where there is one, else ``paper``.
        replay: the folder of an attack set that was found elsewhere, to try as it is instead of searching anew.
        seed: root seed.
        limit: at most so many prompts.
        detector: what looks at the pictures in place of the benchmark's own.
        model: the base model; by default the one that the erasure was made for.
        force: whether it may be another one.
        progress: where to show progress.

    Returns:
        The attack set as saved in ``<artifact>/evidence/attacks/<attack>``; ``result.json`` beside it holds ASR_pre and ASR_post.
    """
    if replay is None:
        ATTACKS.configure(attack, preset, "", config or {})
    replayed = AttackSet.load(replay) if replay is not None else None
    erasure, found = artifact_and_benchmark(artifact, benchmark, part, {"detector": detector})
    painter, progress = painter_for(found, erasure, model, force, True), progress if ranks.is_main() else None
    if replayed is not None:
        return _try(replayed, Path(artifact), erasure, found, painter, progress)
    from efface.benchmarks.found import found_once
    from efface.making import allowed, search, searched_at_once

    function, overrides = ATTACKS.get(attack), dict(config or {})
    concept = next((c for c in erasure.concepts if c.name == found.concept.name), found.concept)

    def searched(tasks: Sequence[Task]) -> AttackSet:
        return search(
            painter.model, erasure, concept, tasks, function, phrases=found.attack_phrases, preset=preset, overrides=overrides, seed=seed,
            force=force, progress=progress,
        )  # fmt: skip

    batch = searched_at_once(function, preset, painter.model.name, overrides)
    with found_once(Path(artifact), searched, found.tasks(part, limit=limit), batch) as made:
        return _try(allowed(made), Path(artifact), erasure, found, painter, progress)


def _try(made: AttackSet, artifact: Path, erasure: Erasure, benchmark: Benchmark, painter: Any, progress: Progress | None) -> AttackSet:
    """Draws what an attack found, and saves both."""
    from efface.benchmarks.runner import run_attack
    from efface.models.processes import in_step

    scores, _, _ = run_attack(benchmark, painter, erasure, made, progress=progress)
    folder = artifact / EVIDENCE / "attacks" / made.attack
    about = {"model": painter.model.name, "run": erasure.spec.hash, "benchmark": {"name": benchmark.name}, "made": _now()}
    with in_step():
        if ranks.is_main():
            made.save(folder)
            Result(tuple(scores), about).save(folder / "result.json")
    return AttackSet.load(folder)


def report(artifact: str | Path, out: str | Path | None = None) -> Path:
    """Write the HTML report of an erasure and everything in its evidence; returns its path, ``<artifact>/evidence/report.html``.

    Raises:
        EffaceError: no artifact there, or one that is damaged.
    """
    from efface.report.page import write_report

    return write_report(Path(artifact), None if out is None else Path(out))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
