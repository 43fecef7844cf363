"""Look-ups and checks shared by the verbs: names, concepts, folders, benchmarks and base models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.attack_set import AttackSet
from efface.core.concept import Concept, find_mention, validate_concepts
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.manifest import EVIDENCE, MANIFEST
from efface.core.registry import METHODS
from efface.distributed import env
from efface.models.loading import load_model
from efface.models.model_ref import BUNDLED, ModelLike, base_bundled_model, model_name

if TYPE_CHECKING:
    from efface.benchmarks.benchmark import Benchmark
    from efface.benchmarks.image_generation import ImageGenerator


def coerce_concepts(concepts: str | Concept | Sequence[str | Concept]) -> tuple[Concept, ...]:
    """One or several concepts, given as names or `Concept` objects, as a tuple of `Concept`."""
    items = [concepts] if isinstance(concepts, str | Concept) else concepts
    return tuple(Concept.coerce(item) for item in items)


def validate_erase(
    concepts: Sequence[Concept], *, out: Path, model: ModelLike, method: str, preset: str | None = None,
    config: Mapping[str, Any] | None = None, overwrite: bool = False,
) -> None:  # fmt: skip
    """Validates concepts, method, configuration, model name and output folder before a model is loaded.

    Raises:
        EffaceError: The first check that fails.
    """
    validate_concepts(concepts)
    METHODS.card(method)
    METHODS.validate_config(method, preset, base_bundled_model(model_name(model)), config or {})
    validate_output_dir(out, overwrite)


def validate_output_dir(out: Path, overwrite: bool = False, marker_file: str = MANIFEST, kind: str = "erasure") -> None:
    """Validates that a folder can be written.

    Args:
        out: The folder.
        overwrite: Whether an existing folder may be replaced.
        marker_file: File that an existing folder must hold to be replaced.
        kind: Name of the folder's content, for the error message.

    Raises:
        EffaceError: ``out`` is a file, is not empty, is of another kind, or cannot be written.
    """
    parent = out.absolute().parent
    if out.exists() and not out.is_dir():
        raise EffaceError(f"{out} is a file: choose another folder")
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise EffaceError(f"{out} exists already: choose another folder, or overwrite it (--overwrite)")
        if not (out / marker_file).is_file():
            raise EffaceError(f"{out} is not an {kind}, so it is not replaced: choose another folder")
    if not parent.is_dir():
        raise EffaceError(f"the folder {parent} does not exist: create it first, or choose another --out")
    if not os.access(parent, os.W_OK):
        raise EffaceError(f"no permission to write to the folder {parent}: choose another --out")


def add_default_retain_sets(concepts: Sequence[Concept], model: str) -> tuple[Concept, ...]:
    """Gives concepts without retain prompts the retain set of their bundled model.

    The first concept holds the retain prompts for all. Prompts that mention a concept are left out. Concepts are
    returned unchanged if one of them has retain prompts, or if ``model`` is not bundled.
    """
    if model not in BUNDLED or any(concept.retain_prompts for concept in concepts):
        return tuple(concepts)
    from efface.pocket_world.split import retain_prompts

    words = [word for concept in concepts for word in concept.words]
    prompts = tuple(prompt for prompt in retain_prompts() if find_mention(prompt, words) is None)
    return (replace(concepts[0], retain_prompts=prompts), *concepts[1:])


def load_attack_sets(artifact: Path) -> list[AttackSet]:
    """Loads the attack sets in an erasure's evidence, sorted by name."""
    folder = artifact / EVIDENCE / "attacks"
    return [AttackSet.load(item) for item in sorted(folder.iterdir()) if item.is_dir()] if folder.is_dir() else []


def check_attack_concept(attack_set: AttackSet, benchmark: Benchmark) -> AttackSet:
    """Checks that an attack set targets the benchmark's concept, and returns it.

    Raises:
        EffaceError: The attack set targets another concept.
    """
    attacked = attack_set.concept.name
    measured = benchmark.concept.name
    if attacked != measured:
        raise EffaceError(
            f"the attack set {attack_set.folder} targets {attacked!r}, the benchmark {measured!r}: move the folder away"
        )
    return attack_set


def load_erasure(artifact: str | Path) -> Erasure:
    """Loads the erasure in a folder.

    Raises:
        EffaceError: The folder holds no erasure.
    """
    folder = Path(artifact)
    if not (folder / MANIFEST).is_file():
        raise EffaceError(f"{folder} is not an erasure: it has no {MANIFEST} (make one with `efface erase`)")
    return Erasure.load(folder)


def load_artifact_and_benchmark(
    artifact: str | Path,
    benchmark: str | Path | None,
    split: str = "test",
    detectors: Mapping[str, str | None] | None = None,
) -> tuple[Erasure, Benchmark]:
    """Loads an erasure and a benchmark for it.

    Args:
        artifact: Folder of the erasure.
        benchmark: Name or YAML file; None selects the benchmark of the erasure's model and first concept.
        split: Split that the benchmark must have.
        detectors: Replacements for the benchmark's ``detector``, ``clip`` and ``features``; None keeps its own.

    Raises:
        EffaceError: No such erasure, benchmark, split or detector.
    """
    from efface.benchmarks.benchmark import Benchmark, benchmark_names, find_benchmark
    from efface.benchmarks.detector_names import validate_detector_names

    loaded = Benchmark.load(benchmark) if benchmark is not None else None
    erasure = load_erasure(artifact)
    if loaded is None:
        loaded = find_benchmark(erasure.spec.model, erasure.concepts[0].name)
    if loaded is None:
        concept = erasure.concepts[0].name
        known = ", ".join(benchmark_names())
        raise EffaceError(f"no benchmark for {concept!r} on {erasure.spec.model}: name one of {known}")
    loaded.first_seed(split)
    replacements: dict[str, Any] = {name: value for name, value in (detectors or {}).items() if value is not None}
    loaded = replace(loaded, **replacements)
    validate_detector_names(loaded)
    return erasure, loaded


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
    loaded = load_model(erasure.spec.model if model is None else model, default=erasure.spec.model)
    from efface.benchmarks.image_cache import ImageCache
    from efface.benchmarks.image_generation import ImageGenerator
    from efface.ops.editing.apply import check_base

    check_base(loaded, erasure, allow_base_mismatch=allow_base_mismatch)
    cache = ImageCache() if cache_images and env.is_main() else None
    return ImageGenerator(loaded, benchmark.sampler, cache, allow_base_mismatch=allow_base_mismatch)


def current_time() -> str:
    """The current time in UTC, in ISO format to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
