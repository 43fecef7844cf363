"""Which functions do the verbs' work for erasures of language models and of classifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from efface.core.attack_set import AttackSet
from efface.core.result import Result

from .classifier import (
    attack_classifier_erasure,
    evaluate_classifier_erasure,
    export_classifier_erasure,
    is_classifier_erasure,
)
from .language import (
    attack_language_erasure,
    evaluate_language_erasure,
    export_language_erasure,
    is_language_erasure,
)
from .validation import ErasureLike

if TYPE_CHECKING:
    from efface.exporters.formats import Exported

FIRST_ATTACKS: dict[Callable[..., AttackSet], str] = {
    attack_language_erasure: "paraphrase",
    attack_classifier_erasure: "relearning_images",
}
"""The attack that runs if none is named, by the function that runs it."""


def evaluator_of(artifact: ErasureLike, **image_options: object) -> Callable[..., Result] | None:
    """Returns the function that evaluates an erasure of another kind of model; None for image models.

    Raises:
        EffaceError: it is of another kind, and an option of image models is given.
    """
    if is_language_erasure(artifact, **image_options):
        return evaluate_language_erasure
    return evaluate_classifier_erasure if is_classifier_erasure(artifact, **image_options) else None


def attacker_of(artifact: ErasureLike, **image_options: object) -> Callable[..., AttackSet] | None:
    """Returns the function that attacks an erasure of another kind of model; None for image models.

    Raises:
        EffaceError: it is of another kind, and an option of image models is given.
    """
    if is_language_erasure(artifact, **image_options):
        return attack_language_erasure
    return attack_classifier_erasure if is_classifier_erasure(artifact, **image_options) else None


def exporter_of(artifact: ErasureLike) -> Callable[..., Exported] | None:
    """Returns the function that exports an erasure of another kind of model; None for image models."""
    if is_language_erasure(artifact):
        return export_language_erasure
    return export_classifier_erasure if is_classifier_erasure(artifact) else None
