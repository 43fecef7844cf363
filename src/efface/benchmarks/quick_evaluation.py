"""A short evaluation at the end of an erasure: is the concept erased, are its neighbours and other objects retained?

It uses the dev split, so that no image reported later has been used, and few images. `efface evaluate` gives the
verdict. A concept without a benchmark gets one in memory (`new_benchmark`): on pocket with its judge or its CLIP model,
on other models with the CLIP model that the user names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from efface.core.concept import Concept, distinct_retain_prompts
from efface.core.erasure import Erasure
from efface.core.score import Score
from efface.core.serialization import to_jsonable_dict
from efface.core.verdict import Thresholds
from efface.models.editable import EditableModel
from efface.models.model_ref import image_world
from efface.ops.training.progress import Progress

from .benchmark import Benchmark, find_benchmark
from .benchmark_mismatch import POCKET
from .detector_loading import INPUT_SIZES
from .detector_names import POCKET_JUDGE
from .image_cache import ImageCache
from .image_generation import ImageGenerator
from .new_benchmark import draft_benchmark
from .photo_sampler import photo_sampler
from .runner import run_benchmark
from .substitutions import Substitution, find_substitutions

NUM_IMAGES = 20
"""Images of each group."""
GROUPS = ("name", "near", "other")
_SCORES = {
    "rer": ("rer", "name"),
    "retention_near": ("retention", "near"),
    "retention": ("retention", "other"),
    "context": ("retention", "context"),
    "abstention": ("abstention_rate", "name"),
}
"""Metric and group of each score."""

QuickScore = dict[str, float | int | None]


@dataclass(frozen=True)
class QuickEvaluation:
    """The outcome of a quick evaluation.

    Attributes:
        benchmark: name of the benchmark.
        detector: name of its detector.
        scores: value, low, high and n of ``rer`` (of the name), ``retention_near``, ``retention`` (of the group other),
            ``context`` (retention of the context) and ``abstention``.
        substitutions: what the model generates instead of the concept and of retained objects.
    """

    benchmark: str
    detector: str
    scores: Mapping[str, QuickScore]
    substitutions: Sequence[Substitution] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return to_jsonable_dict(self)

    def summary(self, thresholds: Thresholds | None = None) -> str:
        """One line, such as ``quick check: erased by its name, neighbours retained, the rest retained (...)``."""
        limits = thresholds or Thresholds()
        rer, near, other = (
            Score(*_SCORES[name], **self.scores[name])  # type: ignore[arg-type]
            for name in ("rer", "retention_near", "retention")
        )
        levels = ((limits.erased, "erased by its name"), (limits.partly_erased, "partly erased by its name"))
        erased = _level(rer.value, levels, "not erased")
        if _is_destroyed(self.scores, limits):
            erased = "the concept's images are destroyed"
        neighbours = _level(near.value, ((limits.retention_near, "neighbours retained"),), "neighbours not retained")
        rest = _level(other.value, ((limits.retention_other, "the rest retained"),), "the rest not retained")
        scores = ", ".join(score.summary() for score in (rer, near, other))
        drawn = "".join(f"; {substitution}" for substitution in self.substitutions)
        return f"quick check: {erased}, {neighbours}, {rest} ({scores}){drawn}"


def quick_evaluate(
    model: EditableModel, erasure: Erasure, progress: Progress | None = None, clip: str | None = None
) -> QuickEvaluation | None:
    """Evaluates the erasure of the first concept on a few images of its name, its neighbours and other objects.

    Args:
        model: the base model.
        erasure: the erasure.
        progress: progress display.
        clip: CLIP model that judges images of models other than pocket: a folder or a hub id.

    Returns:
        None on a model other than pocket without `clip`.

    Raises:
        EffaceError: the CLIP model does not load, or the retain prompts leave no neighbours to score.
    """
    benchmark = quick_benchmark(model, erasure.concepts, clip)
    if benchmark is None:
        return None
    image_generator = ImageGenerator(model, benchmark.sampler, ImageCache())
    evaluation = run_benchmark(
        benchmark, image_generator, erasure, split="dev", limit=NUM_IMAGES, groups=GROUPS, progress=progress
    )
    found = {name: evaluation.result.score(*key) for name, key in _SCORES.items()}
    scores: dict[str, QuickScore] = {
        name: {"value": score.value, "low": score.low, "high": score.high, "n": score.n}
        for name, score in found.items()
        if score is not None
    }
    assert evaluation.before is not None
    drawn = find_substitutions(evaluation.before, evaluation.after, benchmark)
    return QuickEvaluation(benchmark.name, benchmark.detector, scores, drawn)


def quick_benchmark(model: EditableModel, concepts: Sequence[Concept], clip: str | None) -> Benchmark | None:
    """Returns the shipped benchmark of the first concept, or a draft; None on models other than pocket without CLIP.

    Args:
        model: the base model.
        concepts: the erased concepts; a draft scores none of the others.
        clip: CLIP model that replaces a shipped benchmark's detector on models other than pocket; the sampler of the
            model's own pipeline replaces the benchmark's there.
    """
    is_pocket = image_world(model.name) == POCKET and model.image_size == INPUT_SIZES[POCKET_JUDGE]
    if not is_pocket and clip is None:
        return None
    shipped = find_benchmark(model.name, concepts[0].name)
    if shipped is None:
        erased_too = [word for concept in concepts[1:] for word in concept.words]
        retained = distinct_retain_prompts(concepts)
        concept = replace(concepts[0], retain_prompts=retained)
        return draft_benchmark(model, concept, unscored=erased_too, **({} if clip is None else {"clip": clip}))
    if is_pocket or clip is None:
        return shipped
    return replace(shipped, detector=f"zero-shot:{clip}", clip=clip, sampler=photo_sampler(model))


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
