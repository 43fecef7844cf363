"""The checks before and after a method runs, by the kind of model."""

from __future__ import annotations

from typing import Any

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.ops.language.text_check import check_finite_logits
from efface.ops.training.progress import Progress

from .classifiers import check_classifier_effect, check_finite_predictions, is_classifier
from .effect_check import CheckedErasure, check_base_model, check_effect
from .expected_time import with_expected_time
from .language import check_language_effect, is_language_model


def generates_images(model: Any) -> bool:
    """Returns whether a model reads prompts and generates images."""
    return not is_language_model(model) and not is_classifier(model)


def check_before(
    model: Any, concepts: tuple[Concept, ...], seed: int, function: Any, config: Any, progress: Progress | None
) -> Progress | None:
    """Checks that the base model works, by one image or one pass over a text; returns the progress display."""
    if is_classifier(model):
        check_finite_predictions(model)
        return progress
    if is_language_model(model):
        check_finite_logits(model, concepts)
        return progress
    return with_expected_time(progress, function, config, model.name, check_base_model(model, concepts, seed))


def check_after(model: Any, erasure: Erasure, *options: Any, **extra: Any) -> CheckedErasure:
    """Checks the effect by texts or by images; the options are those of `check_effect`."""
    if is_classifier(model):
        return check_classifier_effect(model, erasure, **extra)
    if is_language_model(model):
        return check_language_effect(model, erasure, **extra)
    return check_effect(model, erasure, *options, **extra)
