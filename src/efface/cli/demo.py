"""``efface demo``: erase a style from pocket, attack it, evaluate it and write the report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app
from .options import Json
from .output import open_in_browser, print_result, print_text

if TYPE_CHECKING:
    from rich.text import Text

    from efface.core.result import Result

BENCHMARK = "pocket-style"
METHOD = "uce"
ATTACKS = ("synonyms", "inside_out")
IMAGES_PER_GROUP = 48
"""Enough images for a verdict, few enough for a demo."""
DemoFolder = Annotated[Path, typer.Option("--out", help="Folder to write the erasure, its evidence and the report to.")]
OpenReport = Annotated[
    bool, typer.Option("--open/--no-open", help="Open the report in the browser at the end, if there is a display.")
]


@app.command()
def demo(out: DemoFolder = Path("efface-demo"), open_report: OpenReport = True, as_json: Json = False) -> None:
    """Erase the style "mosaic" from pocket, attack and evaluate it, and write a report (two minutes on two cores)."""
    stream = sys.stderr if as_json else sys.stdout
    result, path = run_demo(out, lambda text: print_text(text, stream))
    print_result({"verdict": result.summary(), "report": str(path)}, f"\nreport: {path.absolute()}", as_json)
    if open_report:
        open_in_browser(path)


def run_demo(out: Path, announce: Callable[[str | Text], None]) -> tuple[Result, Path]:
    """Erases, attacks, evaluates and reports.

    Args:
        out: folder of the erasure.
        announce: called with a text before each step, and with the scores.

    Returns:
        The result and the report's path.
    """
    from efface import api
    from efface.benchmarks.benchmark import Benchmark
    from efface.models.loading import load_model
    from efface.ops.training.progress import terminal_progress

    from .scores import result_as_text

    concept, model = Benchmark.load(BENCHMARK).concept, load_model("pocket")
    announce(f"1. Erase the style {concept.name!r} from pocket, the bundled text-to-image model, with UCE: a second.")
    api.erase(
        concept, out=out, model=model, method=METHOD, quick_evaluation=False, overwrite=True,
        progress=terminal_progress(),
    )  # fmt: skip
    announce(f"2. Attack the erasure: ask for a {concept.name} in other words, and with an embedding attack.")
    for attack in ATTACKS:
        api.attack(out, attack, BENCHMARK, model=model, limit=IMAGES_PER_GROUP, progress=terminal_progress())
    announce(
        "3. Evaluate: generate the same seeds before and after, judged by a classifier trained on no generated image."
    )
    result = api.evaluate(out, BENCHMARK, model=model, limit=IMAGES_PER_GROUP, progress=terminal_progress())
    announce(result_as_text(result, out))
    return result, api.report(out)
