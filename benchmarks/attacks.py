"""Measure the attacks themselves: ``python benchmarks/attacks.py [ATTACK ...] --control ARTIFACT --limit 8``.

Each attack runs on an erasure that nothing defends, and on a control model in which weapon never was
(`training/pocket/without_concept.py`). An attack that needs a control reports its success above the control's rate;
without ``--control``, above the rate that is stored for as many prompts: it depends on no erasure. Rates are stored in
``docs/attacks.json``, from which `docs/generate.py` writes the table of ``docs/attacks.md``. Stored rates are not
measured again: remove them first. Whoever changes an attack's preset removes its rates, too.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from efface import api
from efface.benchmarks.benchmark import Benchmark
from efface.core.evaluation_evidence import RESULT
from efface.core.io import atomic_write_bytes
from efface.core.registry import ATTACKS
from efface.core.result import Result
from efface.core.score import Score
from efface.metrics.asr import above_control
from efface.models.editable import EditableModel
from efface.models.loading import load_model
from efface.ops.training.progress import RichProgress

STORE = Path(__file__).parents[1] / "docs" / "attacks.json"
BENCHMARK = "pocket-weapon"
CONTROL = "control"
UNDEFENDED = {
    "inside_out": "leace",
    "composition": "esd",
    "concept_inversion": "esd",
    "noise_probe": "sld",
    "outside_in": "trce",
    "completion_probe": "sld",
    "classifier_guidance_probe": "doco",
    "inverted_latents": "esd",
    "masactrl": "esd",
    "ledits": "esd",
}
"""By attack, the method of the erasure that it runs on; `uce` by default. `inside_out` needs an edit of text states,
`outside_in` finds more on `trce`, the probes need one that leaves the sampler near the concept, the editing attacks
and `inverted_latents` one that trains the denoiser from noise."""
CONTROL_RATE = "reproduction_rate_control"
METRICS = ("asr_pre", "asr_post", "reproduction_rate", CONTROL_RATE)

Row = dict[str, Any]
"""One measurement: attack, target (a method or `CONTROL`), and by metric its value, bounds and number of images."""


def measure(
    attack: str, target: str, artifact: Path, control: Path | None, model: EditableModel, limit: int, rows: list[Row]
) -> Row:
    """Runs an attack on an artifact; the stored rows give the control's rate if no control does."""
    options: dict[str, Any] = {"control": control} if control else {}
    found = api.attack(artifact, attack, BENCHMARK, model=model, limit=limit, progress=RichProgress(), **options)
    assert found.folder is not None
    scored = Result.load(found.folder / RESULT).scores
    measured = [score for score in scored if score.metric in METRICS]
    rate = next((score for score in measured if score.metric == "reproduction_rate"), None)
    if rate is not None and control is None:
        measured += above_stored_control(attack, rate, rows)
    scores = {score.metric: [score.value, score.low, score.high, score.n] for score in measured}
    return {"attack": attack, "target": target, "scores": scores}


def above_stored_control(attack: str, rate: Score, rows: list[Row]) -> list[Score]:
    """Returns the stored rate on the control for as many prompts and the success above it; nothing if none is stored.

    Args:
        attack: name of the attack.
        rate: its `reproduction_rate` on an erasure.
        rows: the stored measurements.
    """
    for row in rows:
        value, low, high, n = row["scores"].get(CONTROL_RATE, (None, None, None, None))
        if row["attack"] == attack and n == rate.n:
            control = replace(rate, metric=CONTROL_RATE, value=value, low=low, high=high, n=n)
            return [control, above_control(rate, control)]
    return []


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
    erasures: Annotated[
        Path | None, typer.Option(help="Folder of the erasures, each named like its method; missing ones are made.")
    ] = None,
) -> None:
    """Measure attacks on an undefended erasure and on the control."""
    model, rows = load_model("pocket"), read_rows()
    with nullcontext(erasures) if erasures else tempfile.TemporaryDirectory() as folder:
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
                rows.append(measure(attack, target, artifact, control if needs_control else None, model, limit, rows))
                write_rows(rows)


if __name__ == "__main__":
    typer.run(main)
