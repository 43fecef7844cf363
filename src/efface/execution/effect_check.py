"""The effect check at the end of every run: did images change, and is the concept gone? Its images are evidence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from efface.benchmarks.quick_evaluation import QuickEvaluation, quick_evaluate
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.manifest import EFFECT_CHECK, EVIDENCE, IMAGES
from efface.core.seeds import derive_seed
from efface.core.serialization import json_bytes
from efface.models.editable import EditableModel
from efface.models.image_checks import check_base_images
from efface.ops.editing.change_check import ChangeCheck, change_check
from efface.ops.png import encode_png
from efface.ops.training.progress import Progress

SLOW_IMAGE = 2.0
"""Seconds of an image above which one is enough to measure how long images take."""


@dataclass(frozen=True)
class CheckedErasure:
    """An erasure after its effect check.

    Attributes:
        erasure: the erasure with ``effect`` filled in.
        summary: the effect in one line.
        files: contents of the check's images and their list, by relative path in the erasure's folder.
    """

    erasure: Erasure
    summary: str
    files: dict[str, bytes]


def check_base_model(model: EditableModel, concepts: Sequence[Concept], seed: int) -> float:
    """Generates one image before any work, so that no training is lost on a model that generates none.

    Returns:
        The seconds that one image takes in two steps.

    Raises:
        EffaceError: the image is black or not finite.
    """
    prompt = (concepts[0].prompts or concepts[0].render_prompts())[0]
    scale = model.default_guidance_scale
    durations = []
    for _ in range(2):  # the first image also pays for what is loaded once
        start = time.perf_counter()
        check_base_images(model.sample([prompt], seeds=[seed], num_inference_steps=2, guidance_scale=scale))
        durations.append(time.perf_counter() - start)
        if durations[0] > SLOW_IMAGE:
            break
    return min(durations)


def check_effect(
    model: EditableModel, erasure: Erasure, progress: Progress | None, clip: str | None = None,
    quick_evaluation: bool = True, **extra: Any,
) -> CheckedErasure:  # fmt: skip
    """Compares images before and after, then evaluates quickly where a detector knows the model's images.

    Args:
        model: Base model without the erasure.
        erasure: Erasure to check.
        progress: Progress display; None shows nothing.
        clip: CLIP model that judges images of models other than pocket; None evaluates on pocket only.
        quick_evaluation: Evaluate quickly at all.
        extra: Further entries of the erasure's ``effect``.
    """
    check = change_check(model, erasure, seed=derive_seed(erasure.spec.seed, "effect") % 2**31)
    evaluation, problem = _evaluate(model, erasure, progress, clip) if quick_evaluation else (None, "")
    summary = check.summary()
    summary += f"; {evaluation.summary()}" if evaluation else ""
    summary += f"; no quick check: {problem}" if problem else ""
    quick = evaluation.to_dict() if evaluation else {}
    gates = {"gates": check.gates} if check.gates else {}
    effect = {**check.to_dict(), "quick_evaluation": quick, "summary": summary, **gates, **extra}
    return CheckedErasure(replace(erasure, effect=effect), summary, _image_files(check))


def _evaluate(
    model: EditableModel, erasure: Erasure, progress: Progress | None, clip: str | None
) -> tuple[QuickEvaluation | None, str]:
    """The quick evaluation, or the reason why it was not possible: an error must not lose a finished erasure."""
    try:
        return quick_evaluate(model, erasure, progress, clip), ""
    except EffaceError as error:
        return None, str(error)


def _image_files(check: ChangeCheck) -> dict[str, bytes]:
    """The images as PNG files with ``images.json``, which lists prompt, seed and file names of every pair."""
    files: dict[str, bytes] = {}
    rows: list[dict[str, Any]] = []
    for pair in check.pairs:
        row: dict[str, Any] = {"group": pair.group, "prompt": pair.prompt, "text": pair.prompt, "seed": pair.seed}
        for when, image in (("before", pair.before), ("after", pair.after)):
            row[when] = f"{len(rows):03}-{when}.png"
            files[f"{EVIDENCE}/{EFFECT_CHECK}/{row[when]}"] = encode_png(image)
        rows.append(row)
    files[f"{EVIDENCE}/{EFFECT_CHECK}/{IMAGES}"] = json_bytes(rows)
    return files
