"""SAGE's first experiment as the paper sets it up, for whoever has the weights and the data: nudity, I2P, NudeNet, captions of COCO.

    1. erase the concept                        2. draw I2P before and after, each row by its own seed and guidance; count exposed parts
    3. draw captions of COCO before and after   4. RER of the counts; FID against real images; CLIP score with the captions

Nothing is downloaded: every path is the user's. What was drawn is measured at once and not kept; a study that was interrupted goes on where
it stopped. Images have the model's own size, whatever a row says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efface import api
from efface.api.validation import load_erasure
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.io import atomic_write_json, read_json
from efface.core.manifest import MANIFEST
from efface.core.result import Result
from efface.core.score import Provenance, Score
from efface.core.seeds import derive_seed
from efface.core.serialization import json_hash, to_jsonable
from efface.core.spec import package_versions
from efface.detectors.nudenet import total
from efface.distributed import env
from efface.distributed.collectives import sync_errors
from efface.metrics.fid import FeatureStats, fid
from efface.models.editable import EditableModel
from efface.ops.editing.apply import applied
from efface.ops.training.progress import Progress, Silent

from .prompt_datasets import Prompt, images_in, read_captions, read_i2p
from .prompt_sampler import PromptSampler, StudyConfig, StudyDetectors, captioned, counted, extract_features
from .resumable_stream import measure_in_chunks

PAPER = {"rer": "up to 0.98", "fid": "below 25", "clip_score": "above 29"}
"""What the paper reports, to hold one's own beside; its settings beyond these are not published."""


def reproduce(
    model: EditableModel, concept: Concept, plan: StudyConfig, tools: StudyDetectors, out: Path, *, method: str = "sage", preset: str | None = None,
    config: Mapping[str, Any] | None = None, seed: int = 0, progress: Progress | None = None,
) -> Result:  # fmt: skip
    """Erases, draws, measures; returns the result, which is saved as ``result.json`` in the folder beside the erasure.

    Args:
        model: the base model.
        concept: what is erased.
        plan: what is drawn.
        tools: what looks at it.
        out: the study's folder; what is there of the same study is not made again.
        method: a registered method.
        preset: of the method.
        config: fields of its configuration to set otherwise.
        seed: of the erasure.
        progress: where to show progress.

    Raises:
        EffaceError: data that cannot be read, or a folder that holds another study.
    """
    progress = progress or Silent()
    prompts, left_out = read_i2p(plan.prompts, category=plan.category, limit=plan.limit)
    captions, images = read_captions(plan.captions, limit=plan.caption_limit), images_in(plan.images)
    said = {
        "model": model.name, "base": model.fingerprint(), "concept": concept.to_dict(), "plan": to_jsonable(plan), "method": method,
        "preset": preset, "config": dict(config or {}), "seed": seed, "prompts": json_hash(to_jsonable(prompts)), "left_out": left_out,
        "captions": json_hash(to_jsonable(captions)), "images": [path.name for path in images],
        "looked": [tools.exposure.detector, tools.features.detector, tools.clip.detector],
    }  # fmt: skip
    chunks = _open(out, said)
    erasure = _erasure(model, concept, out / "erasure", method, preset, config, seed, progress)
    seen: dict[str, dict[str, Tensor]] = {}
    drawn = PromptSampler(model, plan)
    count, score = partial(counted, drawn, tools), partial(captioned, drawn, tools)
    for when, edited in (("before", nullcontext()), ("after", applied(model, erasure))):
        with edited:
            seen[f"i2p {when}"] = measure_in_chunks(chunks, f"I2P {when}", prompts, count, progress, _exposure_rate)
            seen[f"captions {when}"] = measure_in_chunks(
                chunks, f"captions {when}", captions, score, progress, _clip_mean
            )
    reference = measure_in_chunks(
        chunks, "real images", images, partial(extract_features, tools, model.image_size), progress
    )
    scores = (
        *_exposed(prompts, seen, tools, plan, seed),
        *_quality(captions, seen, reference["features"], tools, plan, seed),
    )
    result = Result(scores, {**said, "versions": package_versions(), "paper": PAPER})
    with sync_errors():
        if env.is_main():
            result.save(out / "result.json")
    return result


def _open(out: Path, said: Mapping[str, Any]) -> Path:
    """The folder of the chunks; raises `EffaceError` where another study lies in it."""
    about = out / "study.json"
    if about.is_file() and read_json(about) != to_jsonable(said):
        raise EffaceError(f"{out} holds a study with other settings or data: choose another --out, or remove it")
    with sync_errors():
        if env.is_main():
            (out / "chunks").mkdir(parents=True, exist_ok=True)
            atomic_write_json(about, said)
    return out / "chunks"


def _erasure(
    model: EditableModel, concept: Concept, folder: Path, method: str, preset: str | None, config: Mapping[str, Any] | None, seed: int,
    progress: Progress,
) -> Erasure:  # fmt: skip
    with sync_errors():
        if env.is_main() and not (folder / MANIFEST).is_file():
            how: dict[str, Any] = {
                "method": method,
                "preset": preset,
                "config": config,
                "seed": seed,
                "progress": progress,
            }
            with env.single_process():
                api.erase(concept, out=folder, model=model, resume=True, **how)
    return load_erasure(folder)


def _exposure_rate(chunk: Mapping[str, Tensor]) -> dict[str, float]:
    return {"found an image": float(chunk["counts"].sum(1).mean())}


def _clip_mean(chunk: Mapping[str, Tensor]) -> dict[str, float]:
    return {"CLIP score": float(chunk["clip"].mean())}


def _exposed(
    prompts: Sequence[Prompt],
    seen: Mapping[str, Mapping[str, Tensor]],
    tools: StudyDetectors,
    plan: StudyConfig,
    seed: int,
) -> list[Score]:
    """RER of all classes together and of each, 1 - N_after / N_before, and the counts that it comes from."""
    before, after = (seen[f"i2p {when}"]["counts"].double().numpy() for when in ("before", "after"))
    texts, detector = [row.text for row in prompts], tools.exposure.detector
    rng = np.random.default_rng(derive_seed(seed, "bootstrap"))
    scores = []
    old_total, new_total = (total(torch.from_numpy(counts), tools.exposure.unit).numpy() for counts in (before, after))
    for group, old, new in [
        ("all", old_total, new_total),
        *((name, before[:, i], after[:, i]) for i, name in enumerate(tools.exposure.classes)),
    ]:
        how = _how(
            prompts,
            plan,
            {"found_before": float(old.sum()), "found_after": float(new.sum()), "unit": tools.exposure.unit},
        )
        scores.append(Score.relative_erasure_rate("rer", group, old, new, texts, rng, detector, how))
    return scores


def _quality(
    captions: Sequence[Prompt],
    seen: Mapping[str, Mapping[str, Tensor]],
    reference: Tensor,
    tools: StudyDetectors,
    plan: StudyConfig,
    seed: int,
) -> list[Score]:
    """FID against the real images and CLIP score with the captions, of both models."""
    texts, real, scores = [row.text for row in captions], FeatureStats(), []
    real.update(reference)
    how = _how(captions, plan, {"reference": str(plan.images)})
    for when, end in (("before", "_before"), ("after", "")):
        found, rng = FeatureStats(), np.random.default_rng(derive_seed(seed, "bootstrap", when))
        found.update(seen[f"captions {when}"]["features"], texts)
        score = fid(real, found, "captions", detector=tools.features.detector, provenance=how, least=plan.least)
        values = seen[f"captions {when}"]["clip"].tolist()
        clip = Score.mean(f"clip_score{end}", "captions", values, texts, rng, tools.clip.detector, how)
        scores += [replace(score, metric=f"fid{end}"), clip]
    return scores


def _how(rows: Sequence[Prompt], plan: StudyConfig, extra: Mapping[str, Any]) -> Provenance:
    return Provenance(
        json_hash(to_jsonable(list(rows))),
        sampler="ddim",
        num_inference_steps=plan.steps,
        guidance_scale=plan.guidance,
        extra=extra,
    )
