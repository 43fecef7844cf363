"""Repeats SAGE's first experiment: erases nudity, and measures NudeNet's counts on I2P, FID and CLIP score.

1. Erase the concept.
2. Generate images of I2P with the original and the erased model, each prompt with its own seed and guidance scale, and
   count exposed parts.
3. Generate images of COCO captions with both models.
4. Compute the relative erasure rate (RER), the FID against real images, and the CLIP score.

All data are the user's own files. Images have the model's own size and are not kept. An interrupted study continues.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from efface import api
from efface.api.validation import load_erasure
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.io import atomic_write_json, read_json
from efface.core.manifest import MANIFEST
from efface.core.result import Result
from efface.core.serialization import json_hash, to_jsonable
from efface.core.spec import package_versions
from efface.distributed import env
from efface.distributed.collectives import sync_errors
from efface.models.editable import EditableModel
from efface.ops.editing.apply import applied
from efface.ops.training.progress import Progress, Silent

from .prompt_datasets import Prompt, list_images, read_captions, read_i2p
from .prompt_sampler import (
    PromptSampler,
    StudyConfig,
    StudyDetectors,
    count_exposed_parts,
    extract_features,
    mean_clip_score,
    mean_count,
    score_captions,
)
from .resumable_stream import measure_in_chunks
from .study_scores import STAGES, Measurements, quality_scores, relative_erasure_scores

PAPER = {"rer": "up to 0.98", "fid": "below 25", "clip_score": "above 29"}
"""The paper's results, for comparison; it does not publish all of its settings."""


@dataclass(frozen=True)
class ErasureSettings:
    """The settings of the study's erasure, as those of `efface.erase`."""

    method: str = "sage"
    preset: str | None = None
    config: Mapping[str, Any] | None = None
    seed: int = 0


@dataclass(frozen=True)
class _StudyData:
    """The prompts and real images of a study; `num_refused` prompts mention minors and are left out."""

    prompts: list[Prompt]
    num_refused: int
    captions: list[Prompt]
    images: list[Path]


def reproduce(
    model: EditableModel,
    concept: Concept,
    study: StudyConfig,
    detectors: StudyDetectors,
    out: Path,
    *,
    settings: ErasureSettings | None = None,
    progress: Progress | None = None,
) -> Result:
    """Erase a concept and measure both models; save the result as ``result.json`` beside the erasure.

    Args:
        model: the base model.
        concept: the concept to erase.
        study: data and settings of the images.
        detectors: detectors of the images.
        out: folder of the study; its erasure and measurements are not computed again.
        settings: settings of the erasure; by default ``sage`` with the model's preset.
        progress: progress display.

    Raises:
        EffaceError: a file that cannot be read, or a folder that holds another study.
    """
    progress, settings = progress or Silent(), settings or ErasureSettings()
    data = _read_data(study)
    metadata = _describe(model, concept, study, detectors, settings, data)
    chunks = _open_folder(out, metadata)
    erasure = _erase(model, concept, out / "erasure", settings, progress)
    measured = _measure(model, erasure, study, detectors, data, chunks, progress)
    scores = (
        *relative_erasure_scores(data.prompts, measured, detectors, study, settings.seed),
        *quality_scores(data.captions, measured, detectors, study, settings.seed),
    )
    result = Result(scores, {**metadata, "versions": package_versions(), "paper": PAPER})
    with sync_errors():
        if env.is_main():
            result.save(out / "result.json")
    return result


def _read_data(study: StudyConfig) -> _StudyData:
    prompts, num_refused = read_i2p(study.prompts, category=study.category, limit=study.limit)
    return _StudyData(
        prompts, num_refused, read_captions(study.captions, limit=study.caption_limit), list_images(study.images)
    )


def _describe(
    model: EditableModel,
    concept: Concept,
    study: StudyConfig,
    detectors: StudyDetectors,
    settings: ErasureSettings,
    data: _StudyData,
) -> dict[str, Any]:
    """Describes everything that decides the study's numbers."""
    return {
        "model": model.name,
        "base": model.fingerprint(),
        "concept": concept.to_dict(),
        "study": to_jsonable(study),
        **asdict(settings),
        "config": dict(settings.config or {}),
        "prompts_hash": json_hash(to_jsonable(data.prompts)),
        "num_refused": data.num_refused,
        "captions_hash": json_hash(to_jsonable(data.captions)),
        "reference_images": [path.name for path in data.images],
        "detectors": [detectors.counter.detector, detectors.features.detector, detectors.clip.detector],
    }


def _open_folder(out: Path, metadata: Mapping[str, Any]) -> Path:
    """Creates the study's folder and returns the folder of its chunks.

    Raises:
        EffaceError: the folder holds a study with other settings or data.
    """
    path = out / "study.json"
    if path.is_file() and read_json(path) != to_jsonable(metadata):
        raise EffaceError(f"{out} holds a study with other settings or data: choose another --out, or remove it")
    with sync_errors():
        if env.is_main():
            (out / "chunks").mkdir(parents=True, exist_ok=True)
            atomic_write_json(path, metadata)
    return out / "chunks"


def _erase(
    model: EditableModel, concept: Concept, folder: Path, settings: ErasureSettings, progress: Progress
) -> Erasure:
    """Erases the concept in the main process, unless the folder holds the erasure; loads it in every process."""
    with sync_errors():
        if env.is_main() and not (folder / MANIFEST).is_file():
            with env.single_process():
                task = {"quick_evaluation": False, "progress": progress, **vars(settings)}
                api.erase(concept, out=folder, model=model, resume=True, **task)
    return load_erasure(folder)


def _measure(
    model: EditableModel,
    erasure: Erasure,
    study: StudyConfig,
    detectors: StudyDetectors,
    data: _StudyData,
    chunks: Path,
    progress: Progress,
) -> Measurements:
    """Generates and measures the images of both models, and measures the real images."""
    sampler = PromptSampler(model, study)
    count = partial(count_exposed_parts, sampler, detectors)
    score = partial(score_captions, sampler, detectors)
    contexts: tuple[AbstractContextManager[object], ...] = (nullcontext(), applied(model, erasure))
    counts, captions, flat = {}, {}, torch.empty(0)
    for stage, context in zip(STAGES, contexts, strict=True):
        with context:
            i2p = measure_in_chunks(chunks, f"I2P {stage}", data.prompts, count, progress, mean_count)
            counts[stage], flat = i2p["counts"], i2p["flat"]
            name = f"captions {stage}"
            captions[stage] = measure_in_chunks(chunks, name, data.captions, score, progress, mean_clip_score)
    extract = partial(extract_features, detectors, model.image_size)
    real = measure_in_chunks(chunks, "real images", data.images, extract, progress)
    return Measurements(counts, flat, captions, real["features"])
