"""Runs a benchmark: every picture is drawn once, before and after, and all metrics look at it as it passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from efface.core.attack_set import AttackSet
from efface.core.erasure import Erasure
from efface.core.result import Provenance, Result, Score, Thresholds
from efface.core.seeds import derive_seed
from efface.core.spec import installed
from efface.core.subsample import spread
from efface.metrics.asr import asr_post, asr_pre, seconds_per_success
from efface.metrics.detections import Target
from efface.metrics.erasure_retention import RETAINED, rates
from efface.metrics.harmonic import h_c, h_o
from efface.metrics.interference import interference
from efface.metrics.kid import kid
from efface.models.memory import enough_memory
from efface.ops.training.progress import Progress, Silent

from .benchmark import GROUPS, Benchmark, Row
from .collectors import Watch, check_size
from .evaluation import Evaluation, Key, key_of, shown
from .image_generation import Painter
from .joint_erasure import apart, elsewhere


def run_benchmark(
    benchmark: Benchmark, painter: Painter, erasure: Erasure | None, *, part: str = "test", seed: int | None = None,
    limit: int | None = None, groups: Sequence[str] = GROUPS, attacks: Sequence[AttackSet] = (),
    thresholds: Thresholds | None = None, progress: Progress | None = None,
    about: Mapping[str, Any] | None = None,
) -> Evaluation:  # fmt: skip
    """Draws before and after, and scores; prompts for another concept that was erased, too, are left out.

    Args:
        benchmark: what to draw.
        painter: draws it.
        erasure: what is evaluated; None evaluates the base model against itself.
        part: ``test`` or ``dev``.
        seed: the first picture's; the part's own by default.
        limit: at most so many pictures a group.
        groups: which groups; the others' scores have no value.
        attacks: what to try, too.
        thresholds: what the verdict holds the scores against.
        progress: where to show how far it is.
        about: what else to say of the result.
    """
    check_size(painter.model, benchmark)
    asked, progress = benchmark.rows(part, seed=seed, limit=limit, groups=groups), progress or Silent()
    rows = apart(asked, elsewhere(benchmark, erasure))
    left_out = len(asked) - len(rows)
    keep = {key_of(row) for row in shown(rows)}
    before = Watch.of(benchmark, painter.model.device)
    after, target = before.again(), Target(benchmark.head, benchmark.classes)
    for name, state, watch in (("before", None, before), ("after", erasure, after)):
        stream(painter, rows, state, watch, keep, target, progress, name)
    root = benchmark.first_seed(part) if seed is None else seed
    rng = np.random.default_rng(derive_seed(root, "bootstrap"))
    how = drawn(benchmark)
    scores = list(rates(before.seen, after.seen, target, rng=rng, provenance=how))
    scores += _quality(before, after, target, rng, how)
    kept: dict[Key, tuple[Tensor | None, Tensor]] = {key: (before.kept[key], after.kept[key]) for key in after.kept}
    for attack in attacks:
        found, tried, pictures = run_attack(benchmark, painter, erasure, attack, after, progress=progress, limit=limit)
        scores, rows, kept = [*scores, *found], [*rows, *tried], kept | pictures
    said = {
        **said_of(benchmark, part),
        "seed": root,
        "limit": limit,
        "pictures": 2 * len(rows),
        "left_out": left_out,
        **(about or {}),
    }
    table = interference(
        before.seen, after.seen, RETAINED, rng=rng, provenance=how, head=benchmark.head, without=benchmark.classes
    )
    result = Result(tuple(scores), said, thresholds or Thresholds())
    return Evaluation(result, rows, before.seen, after.seen, table, kept)


def drawn(benchmark: Benchmark) -> Provenance:
    """How the benchmark's pictures come about."""
    return Provenance(
        sampler=benchmark.sampler.name, steps=benchmark.sampler.steps, guidance=benchmark.sampler.guidance
    )


def said_of(benchmark: Benchmark, part: str) -> dict[str, Any]:
    """What a result says of the benchmark, the sampler and the packages."""
    named = {name: getattr(benchmark, name) for name in ("name", "version", "hash", "head", "classes")}
    return {"benchmark": {**named, "part": part}, "sampler": benchmark.sampler, "versions": installed()}


def stream(
    painter: Painter, rows: Sequence[Row], erasure: Erasure | None, watch: Watch, keep: set[Key], target: Target,
    progress: Progress, name: str,
) -> None:  # fmt: skip
    """Draws rows and shows them to a watch, with the share of pictures that show the concept on the progress bar."""
    progress.start(f"drawing {name}", len(rows), 0)
    try:
        done = 0
        for part, images in painter.pictures(rows, erasure):
            with enough_memory("the detectors do not fit beside the model: choose a smaller dtype for it"):
                watch.update(part, images, keep)
            done += len(part)
            seen = [row.shows(target) for row in watch.seen.rows("name", "domain")]
            progress.update(done, {"concept seen": sum(seen) / len(seen)} if seen else {})
    finally:
        progress.stop()


def run_attack(
    benchmark: Benchmark, painter: Painter, erasure: Erasure | None, attack: AttackSet, watch: Watch | None = None, *,
    progress: Progress | None = None, limit: int | None = None,
) -> tuple[list[Score], list[Row], dict[Key, tuple[Tensor | None, Tensor]]]:  # fmt: skip
    """Draws an attack's prompts, as they stood and as it left them; returns its scores, rows and some of the pictures."""
    check_size(painter.model, benchmark)
    watch, progress = watch or Watch.of(benchmark, painter.model.device), progress or Silent()
    plain_rows = [
        Row(attack.attack, p.prompt, p.prompt, p.seed, {benchmark.head: benchmark.classes}) for p in attack.prompts
    ]
    rows = [
        replace(row, text=p.text, soft=p.soft, words=p.words) for row, p in zip(plain_rows, attack.prompts, strict=True)
    ]
    if limit is not None and limit < len(rows):
        picks = spread(range(len(rows)), limit)
        rows, plain_rows = [rows[i] for i in picks], [plain_rows[i] for i in picks]
    keep, target = {key_of(row) for row in shown(rows)}, Target(benchmark.head, benchmark.classes)
    idle, attacked = watch.again(), watch.again()
    stream(painter, plain_rows, erasure, idle, keep, target, progress, f"before {attack.attack}")
    stream(painter, rows, erasure, attacked, keep, target, progress, f"under {attack.attack}")
    rng = np.random.default_rng(derive_seed(attack.seed, "bootstrap", attack.attack))
    found = {"found_against": attack.against}
    how = replace(drawn(benchmark), attack_steps=attack.budget.steps, attack_seconds=attack.budget.seconds, extra=found)
    scores = [
        asr_pre(idle.seen, attack.attack, target, rng=rng, provenance=how),
        asr_post(
            attacked.seen,
            attack.attack,
            target,
            rng=rng,
            provenance=how,
            plain=idle.seen if attack.budget.steps else None,
        ),
    ]
    if attack.budget.steps:
        scores.append(seconds_per_success(scores[-1], len(attack.prompts)))
    watch.seen.adopt(attacked.seen)
    return scores, rows, {key: (idle.kept.get(key), picture) for key, picture in attacked.kept.items()}


def _quality(before: Watch, after: Watch, target: Target, rng: np.random.Generator, how: Provenance) -> list[Score]:
    """KID and CLIP score of what should have stayed, and MACE's harmonic means."""
    reference = replace(how, extra={"reference": "the same prompts and seeds before"})
    scores = [
        kid(
            before.features,
            after.features,
            "other",
            rng=rng,
            detector=before.featured,
            provenance=reference,
            paired=True,
        )
    ]
    for group in RETAINED:
        scores.append(after.clips[group].compute(group, rng=rng, provenance=how))
        scores.append(before.clips[group].compute(group, rng=rng, provenance=how, metric="clip_score_before"))
    return [*scores, h_o(after.seen, target, rng=rng, provenance=how), h_c(after.seen, target, rng=rng, provenance=how)]
