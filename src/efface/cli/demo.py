"""``efface demo``: a weapon erased from pocket, attacked and evaluated, with a report, in two minutes on two cores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from efface import api
from efface.benchmarks.benchmark import Benchmark
from efface.core.result import Result
from efface.models.loading import load_model
from efface.ops.training.progress import RichProgress

from .evaluate import as_text

BENCHMARK = "pocket-weapon"
ATTACKS = ("synonyms", "inside_out")
IMAGES = 48
"""Images a group: enough for a verdict, few enough for a demo."""


def run_demo(out: Path, say: Callable[[str], None]) -> tuple[Result, Path]:
    """Erase, attack, evaluate, report; returns the result and the report's path.

    Args:
        out: folder of the artifact.
        say: told what comes next.
    """
    benchmark, model = Benchmark.load(BENCHMARK), load_model("pocket")
    concept, name = benchmark.concept, benchmark.concept.name
    say(
        f"1. Erase {name!r} from pocket, an embedded text-to-image model, with SAGE, which is given no other word for it."
    )
    api.erase(concept, out=out, model=model, method="sage", preset="demo", overwrite=True, progress=RichProgress())
    say(f"2. Attack what is left: ask for a {name} in other words, and by SAGE's own search.")
    for attack in ATTACKS:
        api.attack(out, attack, BENCHMARK, model=model, limit=IMAGES, progress=RichProgress())
    say("3. Evaluate: the same seeds before and after, judged by a classifier that never saw a generated image.")
    result = api.evaluate(out, BENCHMARK, model=model, limit=IMAGES, progress=RichProgress())
    say(as_text(result))
    return result, api.report(out)
