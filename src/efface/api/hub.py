"""Measure two aspects of HUB on an erasure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.errors import EffaceError
from efface.core.score import Score
from efface.models.model_ref import ModelLike

from .evaluation_inputs import build_generator, load_evaluation_inputs
from .validation import ErasureLike

if TYPE_CHECKING:
    from efface.ops.training.progress import Progress


def hub(
    artifact: ErasureLike, benchmark: str | Path | None = None, *, split: str = "test", limit: int | None = 24,
    translations: Path | None = None, model: ModelLike | None = None, progress: Progress | None = None,
) -> list[Score]:  # fmt: skip
    """Measures translations of the concept, and the phrases nearest to it.

    Args:
        artifact: The erasure, or its folder.
        benchmark: Source of prompts and detector; by default the one of the erasure's model and concept.
        split: Split of the benchmark, ``test`` or ``dev``.
        limit: Maximum number of images of a language, and of the near phrases.
        translations: YAML file with phrases by language; by default those that come with efface.
        model: Base model; by default the one the erasure was made for.
        progress: Progress display; none by default.

    Raises:
        EffaceError: No translations of the concept, or a file that holds none.
    """
    from efface.benchmarks.collectors import check_image_size
    from efface.benchmarks.detector_loading import load_clip, load_detector
    from efface.benchmarks.hub import Hub, read_translations
    from efface.ops.training.progress import Silent

    inputs = load_evaluation_inputs(artifact, benchmark, split)
    measured = inputs.benchmark
    phrases = read_translations(measured.concept.name, translations)
    if not phrases:
        raise EffaceError(
            f"no translations of {measured.concept.name!r}: give --translations FILE, with lines such as "
            "'french: [une arme]'"
        )
    generator = build_generator(measured, inputs.erasure, model, False, cache_images=True)
    check_image_size(generator.model, measured)
    readers = load_detector(measured), load_clip(measured.clip)
    return Hub(measured, generator, inputs.erasure, *readers, phrases, progress or Silent(), split, limit).run()
