"""Attack an erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.attack_set import AttackSet, AttackTask
from efface.core.evaluation_evidence import RESULT
from efface.core.registry import ATTACKS
from efface.core.serialization import json_bytes, json_hash, to_jsonable
from efface.core.spec import package_versions
from efface.distributed import env
from efface.models.model_ref import ModelLike

from .attack_control import control_inputs, with_control
from .attack_settings import attack_folder, changed_settings, replayed_set
from .attack_steps import attack_search, describe_source, limited_tasks, score_attack
from .evaluation_inputs import EvaluationInputs, build_generator, current_time, load_evaluation_inputs
from .kinds import FIRST_ATTACKS, attacker_of
from .validation import ErasureLike, artifact_folder

if TYPE_CHECKING:
    from efface.benchmarks.image_generation import ImageGenerator
    from efface.ops.training.progress import Progress


def attack(
    artifact: ErasureLike, attack: str | None = None, benchmark: str | Path | None = None, *, split: str = "test",
    control: ErasureLike | None = None,
    config: Mapping[str, Any] | None = None, preset: str | None = None, replay: str | Path | None = None, seed: int = 0,
    limit: int | None = None, detector: str | None = None, model: ModelLike | None = None,
    allow_base_mismatch: bool = False, allow_benchmark_mismatch: bool = False, progress: Progress | None = None,
) -> AttackSet:  # fmt: skip
    """Search for prompts that bring an erased concept back, and measure how often they do.

    Args:
        artifact: The erasure, or its folder.
        attack: Name of a registered attack; by default ``synonyms``, or the first one of another kind of model.
        benchmark: Source of the prompts and the detector; by default the benchmark of the erasure's model and concept.
        split: Split of the benchmark, ``test`` or ``dev``.
        control: Artifact that makes the base model one in which the concept never was, for attacks that need one.
        config: Values for fields of the attack's configuration.
        preset: One of the attack's presets; the model's own by default, else ``paper``.
        replay: Folder of an attack set found elsewhere; its prompts are used and no search runs.
        seed: Root seed of the search.
        limit: Maximum number of prompts; a limited attack proves no resistance.
        detector: Detector in place of the benchmark's own.
        model: Base model; by default the one the erasure was made for.
        allow_base_mismatch: Accept a base model other than the erasure's own.
        allow_benchmark_mismatch: Accept a benchmark for another concept or model; every score then states it.
        progress: Progress display; none by default.

    Returns:
        The attack set, saved with its scores and some images in ``<artifact>/evidence/attacks/<label>``.

    Raises:
        EffaceError: Unknown name or setting, corrupt artifact, a benchmark that does not fit, or another base model.
    """
    if attacker := attacker_of(artifact, detector=detector, replay=replay, split=None if split == "test" else split):
        options = (config or {}, preset, seed, limit, model, allow_base_mismatch, progress)
        return attacker(artifact, attack or FIRST_ATTACKS[attacker], benchmark, *options)
    replayed = replayed_set(attack := attack or "synonyms", preset, config, replay, control)
    allowed = (allow_base_mismatch, allow_benchmark_mismatch)
    run = _attack_run(artifact, benchmark, split, detector, model, allowed, control, progress)
    search = (attack, preset, dict(config or {}), seed, limit)
    return run.search(*search) if replayed is None else run.evaluate_and_save(run.with_deviations(replayed, {}))


def _attack_run(
    artifact: ErasureLike, benchmark: str | Path | None, split: str, detector: str | None, model: ModelLike | None,
    allowed: tuple[bool, bool], control: ErasureLike | None, progress: Progress | None,
) -> _AttackRun:  # fmt: skip
    """Loads the base model and checks the benchmark against it; ``allowed`` are mismatches of base and benchmark."""
    allow_base_mismatch, allow_benchmark_mismatch = allowed
    checks: Any = {"detectors": {"detector": detector}, "allow_mismatch": allow_benchmark_mismatch}
    inputs = load_evaluation_inputs(artifact, benchmark, split, **checks)
    generator = build_generator(inputs.benchmark, inputs.erasure, model, allow_base_mismatch, cache_images=True)
    shown = progress if env.is_main() else None
    checked, folder = inputs.checked_for(generator), artifact_folder(artifact)
    return _AttackRun(folder, checked, generator, split, detector, shown, control_inputs(checked, control))


@dataclass(frozen=True)
class _AttackRun:
    """An attack on one erasure with one benchmark: searches for prompts, scores them and saves both."""

    artifact: Path
    inputs: EvaluationInputs
    generator: ImageGenerator
    split: str
    detector: str | None
    progress: Progress | None
    control: EvaluationInputs | None = None

    def search(
        self, attack: str, preset: str | None, overrides: dict[str, Any], seed: int, limit: int | None
    ) -> AttackSet:
        """Searches for prompts in all processes, then scores and saves the prompts that the content policy allows."""
        from efface.distributed.attack_search import search_distributed
        from efface.execution import attack_batch_size, drop_refused
        from efface.execution.resumable_search import remove_parts, search_in_parts

        function, model = ATTACKS.get(attack), self.generator.model
        tasks, used_limit = limited_tasks(self.inputs.benchmark, self.split, limit)
        batch_size = attack_batch_size(function, preset, model.name, overrides)
        changed = changed_settings(function, preset, model.name, overrides)
        search = attack_search(self.inputs, self.generator, function, preset, overrides, seed)
        folder = self._search_folder(attack, changed, seed)

        def search_tasks(tasks: Sequence[AttackTask]) -> AttackSet:
            if batch_size is None:
                return search(tasks, self.progress)
            return search_in_parts(search, tasks, batch_size, folder, self.progress)

        with search_distributed(self.artifact, search_tasks, tasks, batch_size) as attack_set:
            found = replace(drop_refused(attack_set), limit=used_limit)
            control = None
            if self.control is not None:
                control_search = attack_search(self.control, self.generator, function, preset, overrides, seed)
                control = replace(drop_refused(control_search(tasks, self.progress)), limit=used_limit)
            saved = self.evaluate_and_save(self.with_deviations(found, changed), control)
        if env.is_main():
            remove_parts(folder)
        return saved

    def _search_folder(self, attack: str, changed: Mapping[str, Any], seed: int) -> Path:
        """Returns the folder beside the erasure that keeps the parts of an interrupted search with these settings."""
        settings = [attack, changed, seed, self.inputs.benchmark.hash, self.split, self.inputs.erasure.spec.hash]
        key = json_hash([*settings, self.generator.model.fingerprint(), package_versions()])
        return self.artifact.absolute().with_name(f".{self.artifact.absolute().name}.{attack}-{key[:12]}")

    def with_deviations(self, attack_set: AttackSet, changed: Mapping[str, Any]) -> AttackSet:
        """Adds what differs from the attack's own settings on the whole test split, and where the prompts are from."""
        deviations = {**attack_set.deviations, **changed}
        deviations |= {"split": self.split} if self.split != "test" else {}
        deviations |= {"detector": self.detector} if self.detector else {}
        deviations |= {"base": self.generator.model.name} if self.generator.has_other_base else {}
        source = describe_source(self.inputs.benchmark, self.split)
        return replace(attack_set, deviations=deviations, benchmark=attack_set.benchmark or source, folder=None)

    def evaluate_and_save(self, attack_set: AttackSet, control: AttackSet | None = None) -> AttackSet:
        """Generates images from the attack's prompts, scores them, and saves the set, its result and some images.

        A set that the evidence holds already is neither scored nor saved again.
        """
        from efface.distributed.collectives import sync_errors

        other_benchmark = "" if self.inputs.is_default else self.inputs.benchmark.name
        folder = attack_folder(self.artifact, attack_set, self.inputs.erasure.spec.hash, other_benchmark)
        if folder.exists():
            return AttackSet.load(folder)
        settings: Any = {"split": self.split, "label": folder.name, "progress": self.progress}
        evaluation = score_attack(self.inputs, self.generator, attack_set, **settings, created=current_time())
        if control is not None and self.control is not None:
            measured = score_attack(self.control, self.generator, control, **settings)
            evaluation = with_control(evaluation, measured.result, folder.name)
        with sync_errors():
            if env.is_main():
                files = {RESULT: json_bytes(to_jsonable(evaluation.result.to_dict())), **evaluation.image_files()}
                attack_set.save(folder, files=files)
        return AttackSet.load(folder)
