"""The attack of one cell of a sweep: its search, which cells may share, and its scores."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.api.attack_control import control_inputs, with_control
from efface.api.attack_steps import attack_search, describe_source, limited_tasks, score_attack
from efface.api.evaluation_inputs import EvaluationInputs
from efface.core.attack_set import AttackSet
from efface.core.errors import EffaceError
from efface.core.image_files import with_image_hash
from efface.core.registry import ATTACKS
from efface.core.result import Result, Score
from efface.core.serialization import json_bytes, json_hash, to_jsonable
from efface.core.spec import package_versions

from .sweep_cell import Cell, Variant
from .sweep_folder import RESULT, SweepFolder

if TYPE_CHECKING:
    from efface.benchmarks.image_generation import ImageGenerator


def measure_attack(
    cell: Cell, inputs: EvaluationInputs, generator: ImageGenerator, out: Path, folder: SweepFolder
) -> tuple[Result, dict[str, Any]]:
    """Searches, scores the prompts, and saves them with some images; returns the result and what it cost."""
    assert cell.attack is not None
    attack = cell.attack
    attack_set = search_of_cell(cell, attack, inputs, generator, folder)
    label = attack.name if attack.name == attack.function else f"{attack.function}-{attack.name}"
    evaluation = score_attack(inputs, generator, attack_set, split=cell.split, label=label)
    if cell.control:
        controlled = control_inputs(inputs, cell.control.folder)
        assert controlled is not None
        on_control = search_of_cell(cell, attack, controlled, generator, folder)
        measured = score_attack(controlled, generator, on_control, split=cell.split, label=label)
        evaluation = with_control(evaluation, measured.result, label)
    files = {RESULT: json_bytes(to_jsonable(evaluation.result.to_dict())), **evaluation.image_files()}
    attack_set.save(out, files)
    budget = attack_set.budget
    return without_times(evaluation.result), {"attack_seconds": budget.seconds, "attack_steps": budget.steps}


def search_of_cell(
    cell: Cell, attack: Variant, inputs: EvaluationInputs, generator: ImageGenerator, folder: SweepFolder
) -> AttackSet:
    """Searches for prompts that bring the concept back."""
    from efface.execution import drop_refused

    tasks, limit = limited_tasks(inputs.benchmark, cell.split, cell.limit)
    function = ATTACKS.get(attack.function)
    run_search = attack_search(inputs, generator, function, attack.preset, attack.settings, cell.run.seed)

    def search() -> AttackSet:
        return run_search(tasks, None)

    is_control = cell.control is not None and inputs.erasure.spec.hash == cell.control.hash
    is_shared = is_control or ATTACKS.card(attack.function).ignores_erasure
    found = _shared(cell, inputs, generator, folder, search) if is_shared else search()
    deviations = {**with_image_hash(attack.settings), **({"split": cell.split} if cell.split != "test" else {})}
    source = describe_source(inputs.benchmark, cell.split)
    return replace(drop_refused(found), limit=limit, deviations=deviations, benchmark=source)


def _shared(
    cell: Cell,
    inputs: EvaluationInputs,
    generator: ImageGenerator,
    folder: SweepFolder,
    search: Callable[[], AttackSet],
) -> AttackSet:
    """Returns the attack set that another erasure's cell found; searches where there is none."""
    data = {name: value for name, value in cell.to_dict().items() if name != "run"}
    key = [data, cell.run.seed, generator.model.fingerprint(), package_versions()]
    path = folder.search(json_hash(to_jsonable(key))[:16])
    if not path.is_dir():
        found = search()
        with suppress(EffaceError):  # another worker was faster
            found.save(path)
        return found
    return replace(AttackSet.load(path, allow_refused=True), erasure_hash=inputs.erasure.spec.hash, folder=None)


def without_times(result: Result) -> Result:
    """Returns a result without durations, which a second run would measure differently."""

    def untimed(score: Score) -> Score:
        return replace(score, provenance=replace(score.provenance, attack_seconds=None))

    return replace(result, scores=tuple(untimed(s) for s in result.scores if s.metric != "seconds_per_success"))
