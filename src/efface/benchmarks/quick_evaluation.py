"""A quick look by the judge at the end of an erasure, where a benchmark fits: is the concept's own name gone, is the rest there?

It uses the dev part, so that no image that is reported later has been seen, and few images: `efface evaluate` decides.
"""

from __future__ import annotations

from efface.core.erasure import Erasure
from efface.core.score import Score
from efface.core.verdict import Thresholds
from efface.models.editable import EditableModel
from efface.ops.training.progress import Progress

from .benchmark import benchmark_for
from .image_cache import ImageCache
from .image_generation import ImageGenerator
from .runner import run_benchmark

NUM_IMAGES = 30


def quick_evaluate(
    model: EditableModel, erasure: Erasure, progress: Progress | None = None
) -> dict[str, dict[str, float | int | None]]:
    """RER of the first concept's own name, and the share that is kept of other objects; empty where no benchmark fits."""
    benchmark = benchmark_for(model.name, erasure.concepts[0].name)
    if benchmark is None:
        return {}
    image_generator = ImageGenerator(model, benchmark.sampler, ImageCache())
    done = run_benchmark(
        benchmark, image_generator, erasure, part="dev", limit=NUM_IMAGES, groups=("name", "other"), progress=progress
    )
    found = {"rer": done.result.score("rer", "name"), "retention": done.result.score("retention", "other")}
    return {
        name: {"value": s.value, "low": s.low, "high": s.high, "n": s.n} for name, s in found.items() if s is not None
    }


def summarize(seen: dict[str, dict[str, float | int | None]], limits: Thresholds | None = None) -> str:
    """Such as ``at a quick look, it looks erased by its name, the rest kept``, with both scores behind it in brackets."""
    limits = limits or Thresholds()
    scores = {name: Score(name, "name" if name == "rer" else "other", **row) for name, row in seen.items()}  # type: ignore[arg-type]
    rer, kept = scores["rer"], scores["retention"]
    gone = _level(
        rer.value,
        ((limits.erased, "looks erased by its name"), (limits.partly_erased, "looks partly erased")),
        "does not look erased",
    )
    there = _level(kept.value, ((limits.retention_other, "the rest kept"),), "the rest not")
    return f"at a quick look, it {gone}, {there} ({rer.summary()}, {kept.summary()})"


def _level(value: float | None, levels: tuple[tuple[float, str], ...], otherwise: str) -> str:
    if value is None:
        return "nothing to compare with"
    return next((words for limit, words in levels if value >= limit), otherwise)
