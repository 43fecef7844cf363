"""A quick look by the judge at the end of an erasure, where a benchmark fits: is the concept's own name gone, is the rest there?

It uses the dev part, so that no picture that is reported later has been seen, and few pictures: `efface evaluate` decides.
"""

from __future__ import annotations

from efface.core.erasure import Erasure
from efface.core.score import Score
from efface.core.verdict import Thresholds
from efface.models.editable import Editable
from efface.ops.training.progress import Progress

from .benchmark import benchmark_for
from .image_cache import PictureCache
from .image_generation import Painter
from .runner import run_benchmark

PICTURES = 30


def look(
    model: Editable, erasure: Erasure, progress: Progress | None = None
) -> dict[str, dict[str, float | int | None]]:
    """RER of the first concept's own name, and the share that is kept of other objects; empty where no benchmark fits."""
    benchmark = benchmark_for(model.name, erasure.concepts[0].name)
    if benchmark is None:
        return {}
    painter = Painter(model, benchmark.sampler, PictureCache())
    done = run_benchmark(
        benchmark, painter, erasure, part="dev", limit=PICTURES, groups=("name", "other"), progress=progress
    )
    found = {"rer": done.result.score("rer", "name"), "kept": done.result.score("kept", "other")}
    return {
        name: {"value": s.value, "low": s.low, "high": s.high, "n": s.n} for name, s in found.items() if s is not None
    }


def in_words(seen: dict[str, dict[str, float | int | None]], limits: Thresholds | None = None) -> str:
    """Such as ``at a quick look, it looks erased by its name, the rest kept``, with both scores behind it in brackets."""
    limits = limits or Thresholds()
    scores = {name: Score(name, "name" if name == "rer" else "other", **row) for name, row in seen.items()}  # type: ignore[arg-type]
    rer, kept = scores["rer"], scores["kept"]
    gone = _level(
        rer.value,
        ((limits.erased, "looks erased by its name"), (limits.partly, "looks partly erased")),
        "does not look erased",
    )
    there = _level(kept.value, ((limits.kept_other, "the rest kept"),), "the rest not")
    return f"at a quick look, it {gone}, {there} ({rer.text()}, {kept.text()})"


def _level(value: float | None, levels: tuple[tuple[float, str], ...], otherwise: str) -> str:
    if value is None:
        return "nothing to compare with"
    return next((words for limit, words in levels if value >= limit), otherwise)
