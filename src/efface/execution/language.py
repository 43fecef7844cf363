"""What running a method on a language model does otherwise than on an image model: checks before and after."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from efface.core.erasure import Erasure
from efface.core.manifest import EFFECT_CHECK, EVIDENCE, TEXTS
from efface.core.serialization import json_bytes
from efface.models.causal_lm import FAMILY, CausalLM
from efface.ops.language.text_check import text_check

from .effect_check import CheckedErasure


def is_language_model(model: Any) -> bool:
    """Returns whether a loaded model is a language model."""
    return bool(model.family == FAMILY)


def check_language_effect(model: CausalLM, erasure: Erasure, **extra: Any) -> CheckedErasure:
    """Compares texts before and after; ``extra`` holds further entries of the erasure's ``effect``."""
    check = text_check(model, erasure)
    summary = check.summary()
    effect = {**check.to_dict(), "summary": summary, **extra}
    rows = [asdict(pair) for pair in check.pairs]
    files = {f"{EVIDENCE}/{EFFECT_CHECK}/{TEXTS}": json_bytes(rows)}
    return CheckedErasure(replace(erasure, effect=effect), summary, files)
