"""What running a method on a classifier does otherwise than on an image model: checks before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.manifest import EFFECT_CHECK, EVIDENCE, TEXTS
from efface.core.serialization import json_bytes
from efface.core.word_notes import NOTES
from efface.models.classifier import FAMILY, ClassifierModel
from efface.ops.classifiers.forget_sets import forget_split
from efface.ops.classifiers.forgetting_loss import largest_entropy
from efface.ops.classifiers.predictions import Predictions, predict
from efface.ops.editing.apply import applied

from .effect_check import CheckedErasure

CHECKED = 32
"""Largest number of images of each group."""
NOOP = 1e-3
"""A smaller largest change of a probability counts as no change."""


@dataclass(frozen=True)
class _ImageSettings:
    """The folders that a method's configuration names."""

    images: str
    forget_images: str


def is_classifier(model: Any) -> bool:
    """Returns whether a loaded model is an image classifier."""
    return bool(model.family == FAMILY)


def check_finite_predictions(model: ClassifierModel) -> None:
    """Runs one grey image before any work, so that nothing is lost on a broken model.

    Raises:
        EffaceError: its logits are not finite, or the preprocessing does not fit the model.
    """
    try:
        with torch.no_grad():
            logits = model.logits(model.preprocess([Image.new("RGB", (64, 64), (127, 127, 127))]))
    except (RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EffaceError(
            f"{model.name} does not classify what its preprocessing makes of an image: {reason}"
        ) from error
    if logits.shape != (1, len(model.classes)):
        raise EffaceError(f"{model.name} gives {list(logits.shape)} for one image, not one logit for each class")
    if not bool(logits.isfinite().all()):
        raise EffaceError(f"the logits of {model.name} are not finite: choose another dtype (--dtype float32)")


def check_classifier_effect(model: ClassifierModel, erasure: Erasure, **extra: Any) -> CheckedErasure:
    """Compares predictions before and after; ``extra`` holds further entries of the erasure's ``effect``."""
    config: Mapping[str, Any] = erasure.spec.config
    settings = _ImageSettings(str(config.get("images", "")), str(config.get("forget_images", "")))
    split = forget_split(model, erasure.concepts, settings)
    sets = {"concept": split.forget.limited(CHECKED), "retained": split.retain.limited(CHECKED)}
    sets = {group: images for group, images in sets.items() if len(images)}
    before = {group: predict(model, images) for group, images in sets.items()}
    with applied(model, erasure):
        after = {group: predict(model, images) for group, images in sets.items()}
    bounds = extra.get(NOTES, {}).get("bounds", {}).get("parameters")
    summary = _summary(before, after, largest_entropy(len(model.classes)), bounds)
    numbers = {group: {"before": before[group].to_dict(), "after": after[group].to_dict()} for group in sets}
    rows = [row for group in sets for row in before[group].rows(after[group], group, model.classes)]
    files = {f"{EVIDENCE}/{EFFECT_CHECK}/{TEXTS}": json_bytes(rows)}
    effect = {**numbers, "summary": summary, **extra}
    return CheckedErasure(replace(erasure, effect=effect), summary, files)


def _summary(
    before: Mapping[str, Predictions], after: Mapping[str, Predictions], most: float, bounds: Mapping[str, float] | None
) -> str:
    """Describes the change in one line."""
    old, new = before["concept"], after["concept"]
    text = f"{old.num_right} of {len(old)} images to forget were recognised before, {new.num_right} are after"
    text += f"; entropy {new.mean_entropy:.2f} of at most {most:.2f} nats (before {old.mean_entropy:.2f})"
    if "retained" in before:
        kept, now = before["retained"], after["retained"]
        text += f"; of {len(kept)} images to keep {kept.num_right} before, {now.num_right} after"
    if bounds is not None:
        text += f"; parameters moved by {bounds['measured']:.3g}, at most {bounds['bound']:.3g} by the bound"
    change = max(float((after[g].probabilities - before[g].probabilities).abs().max()) for g in before)
    return f"NOTHING CHANGED: {text}; lower rho or raise steps" if change < NOOP else text
