"""The verbs: erase, attack, evaluate, transfer, report. Each returns the saved, typed object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.checks import (
    artifact_and_benchmark,
    attack_sets,
    check_before,
    check_place,
    load_erasure,
    looking_for,
    painter_for,
    with_retain_sets,
)
from efface.core.attack_set import AttackSet
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownName
from efface.core.manifest import EVIDENCE
from efface.core.registry import ATTACKS, METHODS
from efface.core.result import Result
from efface.models.load import load_model

if TYPE_CHECKING:
    from efface.benchmarks.protocol import Benchmark
    from efface.models.editable import Editable
    from efface.ops.progress import Progress


def erase(
    concepts: str | Concept | Sequence[str | Concept], *, out: str | Path, model: str | Path | Editable = "pocket", method: str = "esd",
    preset: str | None = None, config: Mapping[str, Any] | None = None, seed: int = 0, resume: bool = False, overwrite: bool = False,
    progress: Progress | None = None,
) -> Erasure:  # fmt: skip
    """Erase concepts from a model and save the erasure; the model itself stays as it is.

    Args:
        concepts: what to erase: names or :class:`Concept`, one or several. On an embedded model, a concept without a retain set is given
            the model's own, without the prompts that mention the concept.
        out: the artifact's folder.
        model: a name, a folder in diffusers layout, or a loaded model.
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
    loaded = load_model(model) if isinstance(model, str | Path) else model
    from efface.making import make  # imports torch: after the checks

    wanted = with_retain_sets(wanted, loaded.name)
    return make(
        loaded, wanted, Path(out), METHODS.get(method), preset=preset, overrides=dict(config or {}), seed=seed, resume=resume,
        overwrite=overwrite, progress=progress,
    )  # fmt: skip


def evaluate(
    artifact: str | Path, benchmark: str | Path | None = None, *, part: str = "test", seed: int | None = None, limit: int | None = None,
    fid: int | None = None, model: str | Path | Editable | None = None, force: bool = False, keep: bool = True,
    progress: Progress | None = None,
) -> Result:  # fmt: skip
    """Evaluate an erasure on a benchmark, with every attack set that lies in its evidence; the result is saved there.

    Args:
        artifact: the erasure's folder.
        benchmark: a benchmark's name or YAML file; by default the one of its model and concept.
        part: ``test``, or ``dev`` to choose hyper-parameters.
        seed: the first picture's; the part's own by default.
        limit: at most so many pictures a group.
        fid: so many pictures of unrelated prompts for an FID, at least 2,000, beside the unedited model's own with other seeds.
        model: the base model; by default the one that the erasure was made for.
        force: whether it may be another one.
        keep: whether pictures are kept in the cache.
        progress: where to show progress.

    Returns:
        The result, as saved in ``<artifact>/evidence/<benchmark>-<part>-<seed>/result.json``.

    Raises:
        EffaceError: an unknown benchmark, a damaged artifact, another base.
    """
    erasure, found = artifact_and_benchmark(artifact, benchmark, part)
    painter = painter_for(found, erasure, model, force, keep)
    from efface.benchmarks.distance import distance
    from efface.benchmarks.runner import run_benchmark

    attacks = [looking_for(a, found) for a in attack_sets(Path(artifact))]
    about = {"model": painter.model.name, "run": erasure.spec.hash, "made": _now()}
    more = distance(found, painter, erasure, pictures=fid, part=part, progress=progress) if fid is not None else []
    done = run_benchmark(found, painter, erasure, part=part, seed=seed, limit=limit, attacks=attacks, progress=progress, about=about)
    done.result = replace(done.result, scores=(*done.result.scores, *more))
    name = f"{found.name}-{part}-{done.result.about['seed']}" + (f"-{limit}" if limit is not None else "")
    done.save(Path(artifact) / EVIDENCE / name)
    return done.result


def attack(
    artifact: str | Path, attack: str = "synonyms", benchmark: str | Path | None = None, *, part: str = "test",
    config: Mapping[str, Any] | None = None, preset: str | None = None, replay: str | Path | None = None, seed: int = 0,
    limit: int | None = None, model: str | Path | Editable | None = None, force: bool = False, progress: Progress | None = None,
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
        model: the base model; by default the one that the erasure was made for.
        force: whether it may be another one.
        progress: where to show progress.

    Returns:
        The attack set as saved in ``<artifact>/evidence/attacks/<attack>``; ``result.json`` beside it holds ASR_pre and ASR_post.
    """
    if replay is None:
        ATTACKS.configure(attack, preset, "", config or {})
    replayed = AttackSet.load(replay) if replay is not None else None
    erasure, found = artifact_and_benchmark(artifact, benchmark, part)
    painter = painter_for(found, erasure, model, force, True)
    from efface.making import search

    tasks = found.tasks(part, limit=limit)
    concept = next((c for c in erasure.concepts if c.name == found.concept.name), found.concept)
    made = replayed or search(
        painter.model, erasure, concept, tasks, ATTACKS.get(attack), phrases=found.attack_phrases, preset=preset,
        overrides=dict(config or {}), seed=seed, force=force, progress=progress,
    )  # fmt: skip
    return _try(made, Path(artifact), erasure, found, painter, progress)


def _try(made: AttackSet, artifact: Path, erasure: Erasure, benchmark: Benchmark, painter: Any, progress: Progress | None) -> AttackSet:
    """Draws what an attack found, and saves both."""
    from efface.benchmarks.runner import run_attack

    scores, _, _ = run_attack(benchmark, painter, erasure, made, progress=progress)
    folder = artifact / EVIDENCE / "attacks" / made.attack
    saved = made.save(folder)
    about = {"model": painter.model.name, "run": erasure.spec.hash, "benchmark": {"name": benchmark.name}, "made": _now()}
    Result(tuple(scores), about).save(folder / "result.json")
    return saved


def transfer(
    artifact: str | Path, to: str | Path | Editable, *, out: str | Path, force: bool = False, overwrite: bool = False,
    progress: Progress | None = None,
) -> Erasure:  # fmt: skip
    """Put an erasure onto another model that shares what it edits, without training; the result is an erasure for that model.

    Args:
        artifact: the erasure's folder.
        to: a name, a folder in diffusers layout, or a loaded model.
        out: the new artifact's folder.
        force: whether what is edited may differ from what the erasure was made for; the distance is recorded.
        overwrite: replace an erasure that is there.
        progress: where to show progress.

    Returns:
        The erasure as it lies in ``out``; ``effect["transfer"]`` says where it comes from and how far the bases are apart.

    Raises:
        BaseMismatch: what the erasure edits is another one in that model.
        EffaceError: no artifact there, or no place for the new one.
    """
    check_place(Path(out), overwrite)
    erasure = load_erasure(artifact)
    loaded = load_model(to) if isinstance(to, str | Path) else to
    from efface.making import carry_over

    return carry_over(loaded, erasure, Path(out), force=force, overwrite=overwrite, progress=progress)


def revise(
    artifact: str | Path, *, out: str | Path, add: Sequence[str | Concept] = (), drop: Sequence[str] = (),
    model: str | Path | Editable | None = None, overwrite: bool = False, progress: Progress | None = None,
) -> Erasure:  # fmt: skip
    """Erase more concepts, or give some back: a closed-form erasure is solved again from what it keeps of its texts.

    The result is what erasing the new list of concepts at once would have given.

    Args:
        artifact: the erasure's folder.
        out: the new artifact's folder.
        add: concepts to erase, too; their retain prompts are kept besides those that are there.
        drop: names of concepts that are no longer erased.
        model: the base model; by default the one that the erasure was made for.
        overwrite: replace an erasure that is there.
        progress: where to show progress.

    Raises:
        UnknownName: a name to drop that is not erased.
        EffaceError: a method that keeps nothing to solve from, no concept left, a retain prompt that mentions a concept, another base.
    """
    check_place(Path(out), overwrite)
    erasure = load_erasure(artifact)
    names = [concept.name for concept in erasure.concepts]
    for name in drop:
        if name not in names:
            raise UnknownName("erased concept", name, names)
    if not add and not drop:
        raise EffaceError("nothing to revise: name concepts to add or to drop")
    wanted = erasure.spec.model if model is None else model
    loaded = load_model(wanted) if isinstance(wanted, str | Path) else wanted
    from efface.making import remake
    from efface.ops.apply import check_base

    check_base(loaded, erasure)
    more = tuple(Concept.of(concept) for concept in add)
    return remake(loaded, erasure, Path(out), add=more, drop=drop, overwrite=overwrite, progress=progress)


def report(artifact: str | Path, out: str | Path | None = None) -> Path:
    """Write the HTML report of an erasure and everything in its evidence; returns its path, ``<artifact>/evidence/report.html``.

    Raises:
        EffaceError: no artifact there, or one that is damaged.
    """
    from efface.report.page import write_report

    return write_report(Path(artifact), None if out is None else Path(out))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
