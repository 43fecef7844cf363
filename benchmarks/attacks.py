"""Measure the attacks themselves: ``python benchmarks/attacks.py [ATTACK ...] --control ARTIFACT --limit 8``.

Each attack runs on an erasure that nothing defends, and on a control model in which weapon never was
(`training/pocket/without_concept.py`). An attack that needs a control reports its success above the control's rate.
Rates are stored in ``docs/attacks.json``, from which `docs/generate.py` writes the table of ``docs/attacks.md``. Stored
rates are not measured again: remove them first.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from efface import api
from efface.benchmarks.benchmark import Benchmark
from efface.core.evaluation_evidence import RESULT
from efface.core.io import atomic_write_bytes
from efface.core.registry import ATTACKS
from efface.core.result import Result
from efface.models.editable import EditableModel
from efface.models.loading import load_model
from efface.ops.training.progress import RichProgress

STORE = Path(__file__).parents[1] / "docs" / "attacks.json"
BENCHMARK = "pocket-weapon"
CONTROL = "control"
UNDEFENDED = {"inside_out": "leace", "composition": "leace", "concept_inversion": "esd"}
"""By attack, the method of the erasure that it runs on; `uce` by default. `inside_out` needs an edit of text
states, and `composition` one that depends on the wording."""
METRICS = ("asr_pre", "asr_post", "reproduction_rate", "reproduction_rate_control")

Row = dict[str, Any]
"""One measurement: attack, target (a method or `CONTROL`), and by metric its value, bounds and number of images."""


def measure(attack: str, target: str, artifact: Path, control: Path | None, model: EditableModel, limit: int) -> Row:
    """Runs an attack on an artifact."""
    options: dict[str, Any] = {"control": control} if control else {}
    found = api.attack(artifact, attack, BENCHMARK, model=model, limit=limit, progress=RichProgress(), **options)
    assert found.folder is not None
    scores = {
        score.metric: [score.value, score.low, score.high, score.n]
        for score in Result.load(found.folder / RESULT).scores
        if score.metric in METRICS
    }
    return {"attack": attack, "target": target, "scores": scores}


def read_rows() -> list[Row]:
    """Returns the stored measurements."""
    return json.loads(STORE.read_text(encoding="utf-8")) if STORE.is_file() else []


def write_rows(rows: list[Row]) -> None:
    """Writes the measurements, one a line."""
    ordered = sorted(rows, key=lambda row: (row["attack"], row["target"]))
    lines = ",\n".join(json.dumps(row) for row in ordered)
    atomic_write_bytes(STORE, f"[\n{lines}\n]\n".encode())


def main(
    attacks: Annotated[list[str] | None, typer.Argument(help="Attacks to measure; all on pocket by default.")] = None,
    control: Annotated[Path | None, typer.Option(help="Artifact of a model in which the concept never was.")] = None,
    limit: Annotated[int, typer.Option(help="Maximum number of prompts.")] = 8,
) -> None:
    """Measure attacks on an undefended erasure and on the control."""
    model, rows = load_model("pocket"), read_rows()
    with tempfile.TemporaryDirectory() as folder:
        for attack in attacks or [name for name in ATTACKS.names() if "sd1" in ATTACKS.card(name).families]:
            needs_control = ATTACKS.card(attack).needs_control
            for target in (UNDEFENDED.get(attack, "uce"), *([CONTROL] if control and not needs_control else ())):
                if any((row["attack"], row["target"]) == (attack, target) for row in rows):
                    continue
                artifact = Path(folder) / target
                if target == CONTROL and control is not None:
                    shutil.copytree(control, artifact, dirs_exist_ok=True)
                elif not artifact.is_dir():
                    concept = Benchmark.load(BENCHMARK).concept
                    api.erase(concept, out=artifact, model=model, method=target, quick_evaluation=False)
                rows.append(measure(attack, target, artifact, control if needs_control else None, model, limit))
                write_rows(rows)


if __name__ == "__main__":
    typer.run(main)
