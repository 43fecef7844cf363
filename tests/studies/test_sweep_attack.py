"""The attack of one cell of a sweep: searches that cells share, and the success above a control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.example_scores import JUDGE, PROVENANCE

from efface.api.evaluation_inputs import EvaluationInputs
from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.evaluation import Evaluation
from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask
from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.result import Result
from efface.core.score import Score
from efface.core.spec import RunSpec
from efface.studies.sweep_attack import measure_attack, search_of_cell
from efface.studies.sweep_cell import Cell
from efface.studies.sweep_folder import SweepFolder
from efface.studies.sweep_grid import read_grid

GRID = "methods: [uce, leace]\nbenchmarks: [pocket-weapon]\nevaluate: false\nlimit: 2\n"
RULE = Edit("sampler", "guidance", params={"rule": "negative_prompt", "prompts": ["a weapon"]})
NO_MODEL: Any = SimpleNamespace(model=SimpleNamespace(fingerprint=dict))


def cells_of(folder: Path, fields: str) -> list[Cell]:
    (folder / "grid.yaml").write_text(GRID + fields)
    return read_grid(folder / "grid.yaml").cells()


def inputs_of(cell: Cell) -> EvaluationInputs:
    return EvaluationInputs(Erasure(cell.run, (RULE,)), Benchmark.load(cell.benchmark))


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces every search by one that finds the words ``a b``; lists the attacks that searched."""
    names = list[str]()

    def search(inputs: EvaluationInputs, generator: Any, function: Any, *settings: Any) -> Callable[..., AttackSet]:
        def found(tasks: Sequence[AttackTask], progress: None) -> AttackSet:
            names.append(function.__name__)
            rows = tuple(AttackPrompt(task.prompt, "a b", task.seed) for task in tasks)
            return AttackSet(function.__name__, Concept("gun"), rows, erasure_hash=inputs.erasure.spec.hash)

        return found

    monkeypatch.setattr("efface.studies.sweep_attack.attack_search", search)
    return names


def test_erasures_share_a_search_that_ignores_them(searches: list[str], tmp_path: Path) -> None:
    cells, found = cells_of(tmp_path, "attacks: [inside_out, ring_a_bell]\n"), list[AttackSet]()
    for cell in cells:
        assert cell.attack is not None
        found.append(search_of_cell(cell, cell.attack, inputs_of(cell), NO_MODEL, SweepFolder(tmp_path / "o")))
    assert searches == ["inside_out", "ring_a_bell", "inside_out"]
    assert [attack_set.erasure_hash for attack_set in found] == [cell.run.hash for cell in cells]
    assert len({attack_set.prompts for attack_set in found}) == 1


def test_success_counts_above_the_control_of_the_grid(
    searches: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = RunSpec("pocket", {}, "without_concept_never", {}, (Concept("weapon"),), 0, "")
    Erasure(spec, (RULE,)).save(tmp_path / "control")

    def score(inputs: EvaluationInputs, *others: Any, label: str, **settings: Any) -> Evaluation:
        hits = 4 if inputs.erasure.spec.hash == spec.hash else 10
        result = Result((Score.rate("reproduction_rate", label, hits, 10, JUDGE, PROVENANCE),), {})
        nothing: Any = None
        return Evaluation(result, [], nothing, nothing)

    monkeypatch.setattr("efface.studies.sweep_attack.score_attack", score)
    attacks = "attacks: [synonyms, inverted_latents]\n"
    plain = cells_of(tmp_path, attacks)
    cells = cells_of(tmp_path, attacks + f"controls: {{pocket-weapon: '{tmp_path}/control'}}\n")
    assert [cell.hash == other.hash for cell, other in zip(cells, plain, strict=True)] == [True, False] * 2
    for cell in cells[1::2]:
        out = tmp_path / cell.hash
        result, _ = measure_attack(cell, inputs_of(cell), NO_MODEL, out, SweepFolder(tmp_path / "o"))
        rates = {score.metric: score.value for score in result.scores}
        assert rates == {"reproduction_rate": 1.0, "reproduction_rate_control": 0.4, "asr_post": pytest.approx(0.6)}
    assert searches == ["inverted_latents"] * 3, "one search on each erasure, and one on the control"
