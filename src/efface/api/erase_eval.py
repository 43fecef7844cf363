"""Measure an erasure by EraseEval's four protocols."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.score import Score
from efface.models.model_ref import ModelLike

from .evaluation_inputs import build_generator, load_evaluation_inputs
from .validation import ErasureLike

if TYPE_CHECKING:
    from efface.benchmarks.samples import EvalSample
    from efface.ops.training.progress import Progress


def erase_eval(
    artifact: ErasureLike, benchmark: str | Path | None = None, *, split: str = "test", images_per_prompt: int = 5,
    limit: int | None = None, captioner: str | None = None, yes_no: str = "detector",
    endpoint: tuple[str, str] | None = None, real: str | Path | None = None, model: ModelLike | None = None,
    detector: str | None = None, clip: str | None = None, progress: Progress | None = None,
) -> list[Score]:  # fmt: skip
    """Runs EraseEval's protocols M1 to M4 on an erasure, and combines them.

    Args:
        artifact: The erasure, or its folder.
        benchmark: Source of prompts, detector and CLIP model; by default the one of the erasure's model and concept.
        split: Split of the benchmark, ``test`` or ``dev``.
        images_per_prompt: Number of images of a prompt in M1 and M2.
        limit: Maximum number of prompts of a protocol.
        captioner: ``pocket-judge``, ``endpoint``, or the folder or hub id of a BLIP captioner.
        yes_no: ``detector`` or ``endpoint``: what answers whether an image shows the concept.
        endpoint: Address and name of a vision-language model's chat endpoint.
        real: Folder of real images for M4; pocket draws its own. Other models have no M4 without it.
        model: Base model; by default the one the erasure was made for.
        detector: Detector in place of the benchmark's own.
        clip: CLIP model in place of the benchmark's own.
        progress: Progress display; none by default.

    Returns:
        The scores ``m1`` to ``m4`` and ``erase_eval``.
    """
    from efface.benchmarks.collectors import check_image_size
    from efface.benchmarks.erase_eval import EraseEval
    from efface.benchmarks.erase_eval_readers import load_readers
    from efface.ops.training.progress import Silent

    inputs = load_evaluation_inputs(artifact, benchmark, split, detectors={"detector": detector, "clip": clip})
    readers = load_readers(inputs.benchmark, captioner, yes_no, endpoint)
    generator = build_generator(inputs.benchmark, inputs.erasure, model, False, cache_images=True)
    check_image_size(generator.model, inputs.benchmark)
    reference = _reference(readers.embedder, real, inputs.benchmark.model, generator.model.image_size)
    settings = (progress or Silent(), split, images_per_prompt, limit, reference)
    return EraseEval(inputs.benchmark, generator, inputs.erasure, readers, *settings).run()


def _reference(embedder: Any, real: str | Path | None, world: str, side: int) -> Any:
    """Returns the function that embeds the real images of samples; None without real images."""
    from efface.benchmarks.real_images import drawn_scenes, read_cropped_images
    from efface.models.model_ref import BUNDLED

    if real is not None:
        features = embedder.image_features(read_cropped_images(real, side)).float().cpu()
        return lambda samples: features
    if world not in BUNDLED:
        return None

    def embed(samples: Sequence[EvalSample]) -> Any:
        return embedder.image_features(drawn_scenes(samples)).float().cpu()

    return embed
