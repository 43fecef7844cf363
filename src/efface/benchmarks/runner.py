"""Runs a benchmark: every image is drawn once, before and after, and all metrics look at it as it passes."""

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
from efface.core.spec import package_versions
from efface.core.subsample import evenly_spaced
from efface.metrics.asr import asr_post, asr_pre, seconds_per_success
from efface.metrics.detections import Expected
from efface.metrics.erasure_retention import RETAINED_GROUPS, rates
from efface.metrics.harmonic import h_c, h_o
from efface.metrics.interference import interference
from efface.metrics.kid import kid
from efface.models.memory import oom_as_user_error
from efface.ops.training.progress import Progress, Silent

from .benchmark import GROUPS, Benchmark, EvalSample
from .collectors import MetricCollector, check_size
from .evaluation import Evaluation, Key, key_of, rows_to_save
from .image_generation import ImageGenerator
from .joint_erasure import exclude_rows, other_erased_targets


def run_benchmark(
    benchmark: Benchmark, image_generator: ImageGenerator, erasure: Erasure | None, *, part: str = "test", seed: int | None = None,
    limit: int | None = None, groups: Sequence[str] = GROUPS, attacks: Sequence[AttackSet] = (),
    thresholds: Thresholds | None = None, progress: Progress | None = None,
    about: Mapping[str, Any] | None = None,
) -> Evaluation:  # fmt: skip
    """Draws before and after, and scores; prompts for another concept that was erased, too, are left out.

    Args:
        benchmark: what to draw.
        image_generator: draws it.
        erasure: what is evaluated; None evaluates the base model against itself.
        part: ``test`` or ``dev``.
        seed: the first image's; the part's own by default.
        limit: at most so many images a group.
        groups: which groups; the others' scores have no value.
        attacks: what to try, too.
        thresholds: what the verdict holds the scores against.
        progress: where to show how far it is.
        about: what else to say of the result.
    """
    check_size(image_generator.model, benchmark)
    asked, progress = benchmark.rows(part, seed=seed, limit=limit, groups=groups), progress or Silent()
    rows = exclude_rows(asked, other_erased_targets(benchmark, erasure))
    left_out = len(asked) - len(rows)
    keep = {key_of(row) for row in rows_to_save(rows)}
    before = MetricCollector.of(benchmark, image_generator.model.device)
    after, target = before.fresh_copy(), Expected(benchmark.head, benchmark.classes)
    for name, state, watch in (("before", None, before), ("after", erasure, after)):
        generate_and_score(image_generator, rows, state, watch, keep, target, progress, name)
    root = benchmark.first_seed(part) if seed is None else seed
    rng = np.random.default_rng(derive_seed(root, "bootstrap"))
    how = sampling_provenance(benchmark)
    scores = list(rates(before.detections, after.detections, target, rng=rng, provenance=how))
    scores += _quality(before, after, target, rng, how)
    kept: dict[Key, tuple[Tensor | None, Tensor]] = {key: (before.kept[key], after.kept[key]) for key in after.kept}
    for attack in attacks:
        found, tried, images = run_attack(
            benchmark, image_generator, erasure, attack, after, progress=progress, limit=limit
        )
        scores, rows, kept = [*scores, *found], [*rows, *tried], kept | images
    said = {
        **benchmark_metadata(benchmark, part),
        "seed": root,
        "limit": limit,
        "images": 2 * len(rows),
        "left_out": left_out,
        **(about or {}),
    }
    table = interference(
        before.detections,
        after.detections,
        RETAINED_GROUPS,
        rng=rng,
        provenance=how,
        head=benchmark.head,
        without=benchmark.classes,
    )
    result = Result(tuple(scores), said, thresholds or Thresholds())
    return Evaluation(result, rows, before.detections, after.detections, table, kept)


def sampling_provenance(benchmark: Benchmark) -> Provenance:
    """How the benchmark's images come about."""
    return Provenance(
        sampler=benchmark.sampler.name,
        num_inference_steps=benchmark.sampler.num_inference_steps,
        guidance_scale=benchmark.sampler.guidance_scale,
    )


def benchmark_metadata(benchmark: Benchmark, part: str) -> dict[str, Any]:
    """What a result says of the benchmark, the sampler and the packages."""
    named = {name: getattr(benchmark, name) for name in ("name", "version", "hash", "head", "classes")}
    return {"benchmark": {**named, "part": part}, "sampler": benchmark.sampler, "versions": package_versions()}


def generate_and_score(
    image_generator: ImageGenerator, rows: Sequence[EvalSample], erasure: Erasure | None, watch: MetricCollector, keep: set[Key], target: Expected,
    progress: Progress, name: str,
) -> None:  # fmt: skip
    """Draws rows and shows them to a watch, with the share of images that show the concept on the progress bar."""
    progress.start(f"drawing {name}", len(rows), 0)
    try:
        done = 0
        for part, images in image_generator.generate(rows, erasure):
            with oom_as_user_error("the detectors do not fit beside the model: choose a smaller dtype for it"):
                watch.update(part, images, keep)
            done += len(part)
            seen = [row.shows(target) for row in watch.detections.rows("name", "domain")]
            progress.update(done, {"concept seen": sum(seen) / len(seen)} if seen else {})
    finally:
        progress.stop()


def run_attack(
    benchmark: Benchmark, image_generator: ImageGenerator, erasure: Erasure | None, attack: AttackSet, watch: MetricCollector | None = None, *,
    progress: Progress | None = None, limit: int | None = None,
) -> tuple[list[Score], list[EvalSample], dict[Key, tuple[Tensor | None, Tensor]]]:  # fmt: skip
    """Draws an attack's prompts, as they stood and as it left them; returns its scores, rows and some of the images."""
    check_size(image_generator.model, benchmark)
    watch, progress = watch or MetricCollector.of(benchmark, image_generator.model.device), progress or Silent()
    plain_rows = [
        EvalSample(attack.attack, p.source_prompt, p.source_prompt, p.seed, {benchmark.head: benchmark.classes})
        for p in attack.prompts
    ]
    rows = [
        replace(row, text=p.adversarial_prompt, soft=p.soft, nearest_tokens=p.nearest_tokens)
        for row, p in zip(plain_rows, attack.prompts, strict=True)
    ]
    if limit is not None and limit < len(rows):
        picks = evenly_spaced(range(len(rows)), limit)
        rows, plain_rows = [rows[i] for i in picks], [plain_rows[i] for i in picks]
    keep, target = {key_of(row) for row in rows_to_save(rows)}, Expected(benchmark.head, benchmark.classes)
    idle, attacked = watch.fresh_copy(), watch.fresh_copy()
    generate_and_score(image_generator, plain_rows, erasure, idle, keep, target, progress, f"before {attack.attack}")
    generate_and_score(image_generator, rows, erasure, attacked, keep, target, progress, f"under {attack.attack}")
    rng = np.random.default_rng(derive_seed(attack.seed, "bootstrap", attack.attack))
    found = {"found_against": attack.erasure_hash}
    how = replace(
        sampling_provenance(benchmark),
        attack_steps=attack.budget.steps,
        attack_seconds=attack.budget.seconds,
        extra=found,
    )
    scores = [
        asr_pre(idle.detections, attack.attack, target, rng=rng, provenance=how),
        asr_post(
            attacked.detections,
            attack.attack,
            target,
            rng=rng,
            provenance=how,
            plain=idle.detections if attack.budget.steps else None,
        ),
    ]
    if attack.budget.steps:
        scores.append(seconds_per_success(scores[-1], len(attack.prompts)))
    watch.detections.merge(attacked.detections)
    return scores, rows, {key: (idle.kept.get(key), image) for key, image in attacked.kept.items()}


def _quality(
    before: MetricCollector, after: MetricCollector, target: Expected, rng: np.random.Generator, how: Provenance
) -> list[Score]:
    """KID and CLIP score of what should have stayed, and MACE's harmonic means."""
    reference = replace(how, extra={"reference": "the same prompts and seeds before"})
    scores = [
        kid(
            before.features,
            after.features,
            "other",
            rng=rng,
            detector=before.feature_id,
            provenance=reference,
            paired=True,
        )
    ]
    for group in RETAINED_GROUPS:
        scores.append(after.clips[group].compute(group, rng=rng, provenance=how))
        scores.append(before.clips[group].compute(group, rng=rng, provenance=how, metric="clip_score_before"))
    return [
        *scores,
        h_o(after.detections, target, rng=rng, provenance=how),
        h_c(after.detections, target, rng=rng, provenance=how),
    ]
