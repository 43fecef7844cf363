"""Score an attack: generate images from its prompts before and after the attack's changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from efface.core.attack_set import AttackSet
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import ATTACKS
from efface.core.result import Provenance, Score
from efface.core.seeds import derive_seed
from efface.core.subsample import evenly_spaced
from efface.metrics.asr import asr_post, asr_pre, reproduction_rate, seconds_per_success
from efface.metrics.detections import Detections, TargetClasses
from efface.ops.training.progress import Progress, Silent

from .benchmark import Benchmark
from .collectors import MetricCollector, check_image_size
from .evaluation import SampleKey, sample_key, samples_to_save
from .image_generation import ImageGenerator
from .image_scoring import generate_and_score, sampling_provenance
from .samples import EvalSample


@dataclass(frozen=True)
class AttackEvaluation:
    """Scores of one attack.

    Attributes:
        scores: ``asr_pre``, ``asr_post`` and, for an attack with a search, ``seconds_per_success``; for an attack that
            needs a control ``asr_pre`` and ``reproduction_rate``.
        samples: the samples under attack.
        detections: detections under attack.
        saved_images: bytes ``(3, H, W)`` of images without and under attack, by sample.
    """

    scores: list[Score]
    samples: list[EvalSample]
    detections: Detections
    saved_images: dict[SampleKey, tuple[Tensor | None, Tensor]]


def evaluate_attack(
    benchmark: Benchmark, image_generator: ImageGenerator, erasure: Erasure | None, attack: AttackSet,
    collector: MetricCollector | None = None, *, progress: Progress | None = None, limit: int | None = None,
    label: str | None = None,
) -> AttackEvaluation:  # fmt: skip
    """Generate images from an attack's prompts, without and with its changes, and score them.

    Args:
        benchmark: gives sampler and detectors.
        image_generator: generates the images.
        erasure: the attacked erasure.
        attack: the attack's prompts.
        collector: receives the detections under attack; a new one by default.
        progress: progress display.
        limit: maximum number of the attack's prompts.
        label: group of the scores and samples; the attack's name by default.
    """
    label = label or attack.attack
    check_image_size(image_generator.model, benchmark)
    progress = progress or Silent()
    _check_steps(benchmark, attack)
    unattacked_samples, attacked_samples = _attack_samples(benchmark, attack, limit, label)
    if collector is None:
        collector = MetricCollector.for_benchmark(benchmark, image_generator.model.device)
        _check_base(image_generator, unattacked_samples)
    save_keys = {sample_key(sample) for sample in samples_to_save(attacked_samples)}
    target = TargetClasses(benchmark.head, benchmark.classes)
    unattacked, attacked = collector.fresh_copy(), collector.fresh_copy()
    for samples, state, name in (
        (unattacked_samples, unattacked, f"before {label}"),
        (attacked_samples, attacked, f"under {label}"),
    ):
        edited = attacked_model(erasure, attack) if state is attacked else erasure
        generate_and_score(image_generator, samples, edited, state, save_keys, target, progress, name)
    provenance = _provenance(benchmark, attack, erasure, len(attacked_samples))
    scores = _scores(attack, label, target, unattacked.detections, attacked.detections, provenance)
    collector.detections.merge(attacked.detections)
    images = {key: (unattacked.saved_images.get(key), image) for key, image in attacked.saved_images.items()}
    return AttackEvaluation(scores, attacked_samples, attacked.detections, images)


def attacked_model(erasure: Erasure | None, attack: AttackSet) -> Erasure | None:
    """Returns the erasure followed by the attack's edits of weights, if it has any.

    Raises:
        EffaceError: the edits replace weights that were trained from another erasure's.
    """
    if not attack.edits:
        return erasure
    if erasure is None:
        raise EffaceError(f"{attack.attack} edits an erased model: name an erasure")
    replaces = any(edit.op == "replace" for edit in attack.edits)
    if replaces and attack.erasure_hash != erasure.spec.hash:
        raise EffaceError(
            f"{attack.attack} trained whole weights of another erasure: attack this one instead of replaying the set"
        )
    prefix = "attack."
    edits = [replace(e, tensors={role: prefix + name for role, name in e.tensors.items()}) for e in attack.edits]
    tensors = {name: erasure.tensors[name] for name in erasure.tensor_names()}
    tensors |= {prefix + name: attack.tensors[name] for name in attack.tensors}
    spec = replace(erasure.spec, base={**attack.base_fingerprint, **erasure.spec.base})
    return replace(erasure, spec=spec, edits=(*erasure.edits, *edits), tensors=tensors, folder=None)


def _check_steps(benchmark: Benchmark, attack: AttackSet) -> None:
    """Raises `EffaceError` if latents were made for another number of sampling steps than the benchmark's."""
    steps, own = benchmark.sampler.num_inference_steps, attack.config.get("num_inference_steps")
    if own != steps and any(row.start for row in attack.prompts):
        raise EffaceError(
            f"{attack.attack} made its latents for {own} sampling steps, but {benchmark.name} samples with {steps}: "
            f"attack with --set num_inference_steps={steps}"
        )


def _check_base(image_generator: ImageGenerator, samples: Sequence[EvalSample]) -> None:
    """Generates one image without the erasure: a base model that shows nothing at all resists every attack.

    Raises:
        EffaceError: the image is black or not finite.
    """
    for _ in image_generator.generate(samples[:1], None):
        pass


def _attack_samples(
    benchmark: Benchmark, attack: AttackSet, limit: int | None, label: str
) -> tuple[list[EvalSample], list[EvalSample]]:
    """The attack's samples without and with its changes."""
    prompts = evenly_spaced(attack.prompts, limit)
    expected = {benchmark.head: benchmark.classes}
    unattacked = [
        EvalSample(label, prompt.source_prompt, prompt.source_prompt, prompt.seed, expected) for prompt in prompts
    ]
    attacked = [
        replace(
            sample,
            text=prompt.adversarial_prompt,
            soft=prompt.soft,
            nearest_tokens=prompt.nearest_tokens,
            start=prompt.start,
        )
        for sample, prompt in zip(unattacked, prompts, strict=True)
    ]
    return unattacked, attacked


def _provenance(benchmark: Benchmark, attack: AttackSet, erasure: Erasure | None, num_prompts: int) -> Provenance:
    return replace(
        sampling_provenance(benchmark),
        attack_steps=attack.budget.steps,
        attack_seconds=attack.budget.seconds,
        extra=attack.proof("" if erasure is None else erasure.spec.hash, benchmark.prompts_hash, num_prompts),
    )


def _scores(
    attack: AttackSet,
    label: str,
    target: TargetClasses,
    unattacked: Detections,
    attacked: Detections,
    provenance: Provenance,
) -> list[Score]:
    rng = np.random.default_rng(derive_seed(attack.seed, "bootstrap", attack.attack))
    if attack.attack in ATTACKS.names() and ATTACKS.card(attack.attack).needs_control:
        pre = asr_pre(unattacked, label, target, rng=rng, provenance=provenance)
        return [pre, reproduction_rate(attacked, label, target, rng=rng, provenance=provenance)]
    counted = unattacked if attack.budget.steps else None
    pre = asr_pre(unattacked, label, target, rng=rng, provenance=provenance)
    post = asr_post(attacked, label, target, rng=rng, provenance=provenance, unattacked=counted)
    if not attack.budget.steps:
        return [pre, post]
    return [pre, post, seconds_per_success(post, len(attack.prompts))]
