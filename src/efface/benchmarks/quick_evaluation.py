"""A short evaluation at the end of an erasure: is the concept's name erased, are other objects retained?

It uses the dev split, so that no image reported later has been used, and few images. `efface evaluate` gives the
verdict.
"""

from __future__ import annotations

from collections.abc import Mapping

from efface.core.erasure import Erasure
from efface.core.score import Score
from efface.core.verdict import Thresholds
from efface.models.editable import EditableModel
from efface.ops.training.progress import Progress

from .benchmark import find_benchmark
from .image_cache import ImageCache
from .image_generation import ImageGenerator
from .runner import run_benchmark

NUM_IMAGES = 30
"""Images of each group."""

QuickScore = dict[str, float | int | None]


def quick_evaluate(model: EditableModel, erasure: Erasure, progress: Progress | None = None) -> dict[str, QuickScore]:
    """RER of the first concept's name and retention of other objects, with the guards against destroyed images.

    Returns:
        For ``rer``, ``retention``, ``context`` (retention of the context) and ``abstention`` the score's value, low,
        high and n; empty where no benchmark fits.
    """
    benchmark = find_benchmark(model.name, erasure.concepts[0].name)
    if benchmark is None:
        return {}
    image_generator = ImageGenerator(model, benchmark.sampler, ImageCache())
    groups = ("name", "other")
    evaluation = run_benchmark(
        benchmark, image_generator, erasure, split="dev", limit=NUM_IMAGES, groups=groups, progress=progress
    )
    scores = {
        "rer": evaluation.result.score("rer", "name"),
        "retention": evaluation.result.score("retention", "other"),
        "context": evaluation.result.score("retention", "context"),
        "abstention": evaluation.result.score("abstention_rate", "name"),
    }
    return {
        name: {"value": score.value, "low": score.low, "high": score.high, "n": score.n}
        for name, score in scores.items()
        if score is not None
    }


def summarize(quick_scores: Mapping[str, QuickScore], thresholds: Thresholds | None = None) -> str:
    """One line with both scores, such as ``quick check: erased by its name, the rest retained (...)``."""
    thresholds = thresholds or Thresholds()
    rer = Score("rer", "name", **quick_scores["rer"])  # type: ignore[arg-type]
    retention = Score("retention", "other", **quick_scores["retention"])  # type: ignore[arg-type]
    erasure_levels = (
        (thresholds.erased, "erased by its name"),
        (thresholds.partly_erased, "partly erased by its name"),
    )
    erased = _level(rer.value, erasure_levels, "not erased")
    if _is_destroyed(quick_scores, thresholds):
        erased = "the concept's images are destroyed"
    retained = _level(retention.value, ((thresholds.retention_other, "the rest retained"),), "the rest not retained")
    return f"quick check: {erased}, {retained} ({rer.summary()}, {retention.summary()})"


def _is_destroyed(quick_scores: Mapping[str, QuickScore], thresholds: Thresholds) -> bool:
    """Whether the context of the concept's images is lost or, where it has no value, the detector abstains."""
    context, abstention = (quick_scores.get(name, {}).get("value") for name in ("context", "abstention"))
    if context is not None:
        return context < thresholds.context
    return abstention is not None and abstention >= thresholds.abstention


def _level(value: float | None, levels: tuple[tuple[float, str], ...], otherwise: str) -> str:
    """The words of the first threshold that the value reaches."""
    if value is None:
        return "nothing to compare with"
    return next((words for threshold, words in levels if value >= threshold), otherwise)
