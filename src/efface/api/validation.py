"""What the verbs look up and check before they work: what was asked for exists, fits together, and has a free place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.attack_set import AttackSet
from efface.core.concept import Concept, find_mention, validate_concepts
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.manifest import EVIDENCE, MANIFEST
from efface.core.registry import METHODS
from efface.distributed import env
from efface.models.loading import BUNDLED, ModelLike, base_bundled_model, load_model, name_of

if TYPE_CHECKING:
    from efface.benchmarks.benchmark import Benchmark
    from efface.benchmarks.image_generation import ImageGenerator


def validate_erase(
    concepts: Sequence[Concept], *, out: Path, model: ModelLike, method: str, preset: str | None = None,
    config: Mapping[str, Any] | None = None, overwrite: bool = False,
) -> None:  # fmt: skip
    """What can be known before a model is loaded: concepts that go together, a method, settings and a model that exist, a free place.

    Raises:
        EffaceError: the first that is not so.
    """
    validate_concepts(concepts)
    METHODS.card(method)
    METHODS.validate_config(method, preset, base_bundled_model(name_of(model)), config or {})
    validate_output_dir(out, overwrite)


def validate_output_dir(out: Path, overwrite: bool = False, mark: str = MANIFEST, what: str = "erasure") -> None:
    """Raises `EffaceError` unless a folder can be saved there; what it replaces must hold the file `mark`."""
    parent = out.absolute().parent
    if out.exists() and not out.is_dir():
        raise EffaceError(f"{out} is a file: choose another folder")
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise EffaceError(f"{out} is there already: choose another folder, or overwrite it")
        if not (out / mark).is_file():
            raise EffaceError(f"{out} is not an {what}, so that it is not replaced: choose another folder")
    if not parent.is_dir():
        raise EffaceError(f"the folder {parent} does not exist; make it first or choose another --out")
    if not os.access(parent, os.W_OK):
        raise EffaceError(f"the folder {parent} cannot be written; choose another --out")


def add_default_retain_sets(concepts: Sequence[Concept], model: str) -> tuple[Concept, ...]:
    """On an embedded model, concepts of which none has a retain set with the model's own, which the first of them holds for all."""
    if model not in BUNDLED or any(concept.retain_prompts for concept in concepts):
        return tuple(concepts)
    from efface.pocket_world.split import retain_prompts

    words = [word for concept in concepts for word in concept.words]
    own = tuple(prompt for prompt in retain_prompts() if find_mention(prompt, words) is None)
    return (replace(concepts[0], retain_prompts=own), *concepts[1:])


def load_attack_sets(artifact: Path) -> list[AttackSet]:
    """The attack sets in an erasure's evidence, by name."""
    folder = artifact / EVIDENCE / "attacks"
    return [AttackSet.load(item) for item in sorted(folder.iterdir()) if item.is_dir()] if folder.is_dir() else []


def check_attack_concept(attack_set: AttackSet, benchmark: Benchmark) -> AttackSet:
    """The attack set, if it looks for the benchmark's concept.

    Raises:
        EffaceError: it looks for another one.
    """
    if attack_set.concept.name != benchmark.concept.name:
        wanted, found = benchmark.concept.name, attack_set.concept.name
        raise EffaceError(
            f"the attack set {attack_set.folder} looks for {found!r}, the benchmark for {wanted!r}: move it away"
        )
    return attack_set


def load_erasure(artifact: str | Path) -> Erasure:
    """The erasure in a folder; raises `EffaceError` where there is none."""
    folder = Path(artifact)
    if not (folder / MANIFEST).is_file():
        raise EffaceError(f"{folder} is no erasure: it has no {MANIFEST} (make one with `efface erase`)")
    return Erasure.load(folder)


def load_artifact_and_benchmark(
    artifact: str | Path,
    benchmark: str | Path | None,
    part: str = "test",
    looks: Mapping[str, str | None] | None = None,
) -> tuple[Erasure, Benchmark]:
    """The erasure, and the benchmark that was named or fits it, with other ``detector``, ``clip`` and ``features``; it has the part."""
    from efface.benchmarks.benchmark import Benchmark, benchmark_for, names
    from efface.benchmarks.detector_loading import check_names

    found = Benchmark.load(benchmark) if benchmark is not None else None
    erasure = load_erasure(artifact)
    if found is None:
        found = benchmark_for(erasure.spec.model, erasure.concepts[0].name)
    if found is None:
        raise EffaceError(
            f"no benchmark is for {erasure.concepts[0].name!r} on {erasure.spec.model}: name one of {', '.join(names())}"
        )
    found.first_seed(part)
    others: dict[str, Any] = {name: value for name, value in (looks or {}).items() if value is not None}
    found = replace(found, **others)
    check_names(found)
    return erasure, found


def build_generator(
    benchmark: Benchmark, erasure: Erasure, model: ModelLike | None, force: bool, keep: bool
) -> ImageGenerator:
    """What draws the benchmark's images with the base model."""
    loaded = load_model(erasure.spec.model if model is None else model, default=erasure.spec.model)
    from efface.benchmarks.image_cache import ImageCache
    from efface.benchmarks.image_generation import ImageGenerator
    from efface.ops.editing.apply import check_base

    check_base(loaded, erasure, force=force)
    return ImageGenerator(loaded, benchmark.sampler, ImageCache() if keep and env.is_main() else None, force=force)
