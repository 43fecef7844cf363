"""What an evaluation and an attack need: the erasure, a benchmark that fits it, its attack sets, and a generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.attack_set import ATTACK, AttackSet
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.evaluation_evidence import ATTACKS, RESULT, read_result
from efface.core.manifest import EVIDENCE
from efface.core.result import Result
from efface.core.temporary_files import complete_files
from efface.distributed import env
from efface.models.model_ref import ModelLike

from .validation import ErasureLike, load_base, load_erasure

if TYPE_CHECKING:
    from efface.benchmarks.benchmark import Benchmark
    from efface.benchmarks.image_generation import ImageGenerator


@dataclass(frozen=True)
class EvaluationInputs:
    """An erasure and the benchmark to measure it with.

    Attributes:
        erasure: The erasure.
        benchmark: The benchmark, with the detectors that replace its own.
        mismatch: How the benchmark differs from the erasure; empty if it fits.
        is_default: Whether it is the benchmark of the erasure's model and first concept.
        allow_mismatch: Whether a mismatch is accepted.
    """

    erasure: Erasure
    benchmark: Benchmark
    mismatch: str = ""
    is_default: bool = True
    allow_mismatch: bool = False

    @property
    def replaced_benchmark(self) -> str:
        """Name of efface's own benchmark for the concept and the model if another one is used; else empty."""
        from efface.benchmarks.benchmark import Benchmark, benchmark_names, find_benchmark

        used = self.benchmark
        if used.name in benchmark_names() and Benchmark.load(used.name).prompts_hash == used.prompts_hash:
            return ""
        own = find_benchmark(self.erasure.spec.model, used.concept.name)
        return "" if own is None or own.prompts_hash == used.prompts_hash else own.name

    def checked_for(self, generator: ImageGenerator) -> EvaluationInputs:
        """Checks the benchmark against the generator's model, if that is not the erasure's base."""
        return self.checked(generator.model.name) if generator.has_other_base else self

    def checked(self, model: str) -> EvaluationInputs:
        """Checks the benchmark against the erasure on a model, and returns the inputs with their mismatch.

        Raises:
            EffaceError: The benchmark does not fit, and no mismatch is accepted.
        """
        from efface.benchmarks.benchmark_mismatch import describe_mismatch

        mismatch = describe_mismatch(self.benchmark, self.erasure, model)
        if mismatch and not self.allow_mismatch:
            raise EffaceError(
                f"{self.benchmark.name} does not fit this erasure ({mismatch}): choose another --benchmark, or state "
                "the mismatch in every score with --allow-benchmark-mismatch"
            )
        return replace(self, mismatch=mismatch)


def load_evaluation_inputs(
    artifact: ErasureLike, benchmark: str | Path | None, split: str = "test", *,
    detectors: Mapping[str, str | None] | None = None, allow_mismatch: bool = False,
) -> EvaluationInputs:  # fmt: skip
    """Loads an erasure and a benchmark for it.

    Args:
        artifact: The erasure, or its folder.
        benchmark: Name or YAML file; None selects the benchmark of the erasure's model and first concept.
        split: Split that the benchmark must have.
        detectors: Replacements for the benchmark's ``detector``, ``clip`` and ``features``; None keeps its own.
        allow_mismatch: Accept a benchmark for another concept or model; its scores then state the mismatch.

    Raises:
        EffaceError: No such erasure, benchmark, split or detector, or a benchmark that does not fit the erasure.
    """
    from efface.benchmarks.benchmark import Benchmark, benchmark_names, find_benchmark
    from efface.benchmarks.detector_names import validate_detector_names
    from efface.benchmarks.token_sampler import for_model

    loaded = Benchmark.load(benchmark) if benchmark is not None else None
    erasure = load_erasure(artifact)
    default = find_benchmark(erasure.spec.model, erasure.concepts[0].name)
    chosen = for_model(loaded, erasure.spec.model) if loaded else default
    if chosen is None:
        concept = erasure.concepts[0].name
        known = ", ".join(benchmark_names())
        raise EffaceError(f"no benchmark for {concept!r} on {erasure.spec.model}: name one of {known}")
    chosen.first_seed(split)
    replacements: dict[str, Any] = {name: value for name, value in (detectors or {}).items() if value is not None}
    replaced = replace(chosen, **replacements)
    validate_detector_names(replaced)
    is_default = default is not None and chosen.hash == default.hash
    inputs = EvaluationInputs(erasure, replaced, is_default=is_default, allow_mismatch=allow_mismatch)
    return inputs.checked(erasure.spec.model)


def load_attack_sets(artifact: Path, benchmark: Benchmark) -> dict[str, AttackSet]:
    """Loads the attack sets in an erasure's evidence that target the benchmark's concept, by label."""
    folder = artifact / EVIDENCE / ATTACKS
    loaded = {path.parent.name: AttackSet.load(path.parent) for path in complete_files(folder, ATTACK)}
    return {label: item for label, item in loaded.items() if item.concept.name == benchmark.concept.name}


def build_generator(
    benchmark: Benchmark, erasure: Erasure, model: ModelLike | None, allow_base_mismatch: bool, cache_images: bool
) -> ImageGenerator:
    """Loads the base model and builds the generator of a benchmark's images.

    Args:
        benchmark: Source of the sampler's settings.
        erasure: Erasure to evaluate.
        model: Base model; None selects the one the erasure was made for.
        allow_base_mismatch: Accept a base model other than the erasure's own.
        cache_images: Keep images in the image cache (main process only).

    Raises:
        BaseModelMismatchError: The model is not the base the erasure was made for.
    """
    loaded = load_base(erasure, model)
    from efface.benchmarks.image_cache import ImageCache
    from efface.benchmarks.image_generation import ImageGenerator
    from efface.ops.editing.base_check import check_base

    _, mismatched = check_base(loaded, erasure, allow_base_mismatch=allow_base_mismatch)
    cache = ImageCache() if cache_images and env.is_main() else None
    generator = ImageGenerator(loaded, benchmark.sampler, cache, allow_base_mismatch=allow_base_mismatch)
    generator.has_other_base = bool(mismatched)
    return generator


def same_result(folder: Path, result: Result) -> bool:
    """Returns whether a folder holds the same result, whenever it was made."""
    saved = read_result(folder / RESULT)
    return replace(saved, metadata={**saved.metadata, "created": result.metadata["created"]}) == result


def current_time() -> str:
    """The current time in UTC, in ISO format to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
