"""The verbs: erase, attack, evaluate, report. Each returns the saved, typed object."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.attack_set import AttackSet
from efface.core.concept import Concept, check_together, mentions
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.manifest import EVIDENCE, MANIFEST
from efface.core.registry import Registry
from efface.core.result import Result
from efface.models.load import EMBEDDED, load_model, locate

if TYPE_CHECKING:
    from efface.benchmarks.protocol import Benchmark
    from efface.models.editable import Editable
    from efface.ops.progress import Progress

METHODS = Registry("method", "efface.methods")
ATTACKS = Registry("attack", "efface.attacks")


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


def check_before(
    concepts: Sequence[Concept], *, out: Path, model: str | Path | Editable, method: str, preset: str | None = None,
    config: Mapping[str, Any] | None = None, overwrite: bool = False,
) -> None:  # fmt: skip
    """What can be known before a model is loaded: concepts that go together, a method, settings and a model that exist, a free place.

    Raises:
        EffaceError: the first that is not so.
    """
    check_together(concepts)
    METHODS.card(method)
    name = locate(model)[1] if isinstance(model, str | Path) else model.name
    METHODS.configure(method, preset, name, config or {})
    parent = out.absolute().parent
    if out.exists() and not out.is_dir():
        raise EffaceError(f"{out} is a file: choose another folder")
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise EffaceError(f"{out} is there already: choose another folder, or overwrite it")
        if not (out / MANIFEST).is_file():
            raise EffaceError(f"{out} is not an erasure, so that it is not replaced: choose another folder")
    if not parent.is_dir():
        raise EffaceError(f"the folder {parent} does not exist; make it first or choose another --out")
    if not os.access(parent, os.W_OK):
        raise EffaceError(f"the folder {parent} cannot be written; choose another --out")


def with_retain_sets(concepts: Sequence[Concept], model: str) -> tuple[Concept, ...]:
    """Concepts without a retain set with the embedded model's own; others as they are."""
    if model not in EMBEDDED:
        return tuple(concepts)
    from efface.worlds.split import retain_prompts

    words = [word for concept in concepts for word in concept.words]
    own = tuple(prompt for prompt in retain_prompts() if mentions(prompt, words) is None)
    return tuple(concept if concept.retain else replace(concept, retain=own) for concept in concepts)


def evaluate(
    artifact: str | Path, benchmark: str | Path | None = None, *, part: str = "test", seed: int | None = None, limit: int | None = None,
    model: str | Path | Editable | None = None, force: bool = False, keep: bool = True, progress: Progress | None = None,
) -> Result:  # fmt: skip
    """Evaluate an erasure on a benchmark, with every attack set that lies in its evidence; the result is saved there.

    Args:
        artifact: the erasure's folder.
        benchmark: a benchmark's name or YAML file; by default the one of its model and concept.
        part: ``test``, or ``dev`` to choose hyper-parameters.
        seed: the first picture's; the part's own by default.
        limit: at most so many pictures a group.
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
    painter = _painter(found, erasure, model, force, keep)
    from efface.benchmarks.runner import run_benchmark

    attacks = [_looking_for(a, found) for a in attack_sets(Path(artifact))]
    about = {"model": painter.model.name, "run": erasure.spec.hash, "made": _now()}
    done = run_benchmark(found, painter, erasure, part=part, seed=seed, limit=limit, attacks=attacks, progress=progress, about=about)
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
    painter = _painter(found, erasure, model, force, True)
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


def report(artifact: str | Path, out: str | Path | None = None) -> Path:
    """Write the HTML report of an erasure and everything in its evidence; returns its path, ``<artifact>/evidence/report.html``.

    Raises:
        EffaceError: no artifact there, or one that is damaged.
    """
    from efface.report.page import write_report

    return write_report(Path(artifact), None if out is None else Path(out))


def attack_sets(artifact: Path) -> list[AttackSet]:
    """The attack sets in an erasure's evidence, by name."""
    folder = artifact / EVIDENCE / "attacks"
    return [AttackSet.load(item) for item in sorted(folder.iterdir()) if item.is_dir()] if folder.is_dir() else []


def _looking_for(attack_set: AttackSet, benchmark: Benchmark) -> AttackSet:
    """The attack set, if it looks for the benchmark's concept.

    Raises:
        EffaceError: it looks for another one.
    """
    if attack_set.concept.name != benchmark.concept.name:
        wanted, found = benchmark.concept.name, attack_set.concept.name
        raise EffaceError(f"the attack set {attack_set.folder} looks for {found!r}, the benchmark for {wanted!r}: move it away")
    return attack_set


def artifact_and_benchmark(artifact: str | Path, benchmark: str | Path | None, part: str = "test") -> tuple[Erasure, Benchmark]:
    """The erasure, and the benchmark that was named or fits it; it has the part."""
    from efface.benchmarks.protocol import Benchmark, benchmark_for, names

    found = Benchmark.load(benchmark) if benchmark is not None else None
    folder = Path(artifact)
    if not (folder / MANIFEST).is_file():
        raise EffaceError(f"{folder} is no erasure: it has no {MANIFEST} (make one with `efface erase`)")
    erasure = Erasure.load(folder)
    if found is None:
        found = benchmark_for(erasure.spec.model, erasure.concepts[0].name)
    if found is None:
        raise EffaceError(f"no benchmark is for {erasure.concepts[0].name!r} on {erasure.spec.model}: name one of {', '.join(names())}")
    found.first_seed(part)
    return erasure, found


def _painter(benchmark: Benchmark, erasure: Erasure, model: str | Path | Editable | None, force: bool, keep: bool) -> Any:
    """What draws the benchmark's pictures with the base model."""
    wanted = erasure.spec.model if model is None else model
    loaded = load_model(wanted) if isinstance(wanted, str | Path) else wanted
    from efface.benchmarks.cache import PictureCache
    from efface.benchmarks.draw import Painter
    from efface.ops.apply import check_base

    check_base(loaded, erasure, force=force)
    return Painter(loaded, benchmark.sampler, PictureCache() if keep else None, force=force)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
