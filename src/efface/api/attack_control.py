"""The success of an attack above that on a control model, in which the concept never was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.attack_set import AttackSet
from efface.core.errors import EffaceError
from efface.core.registry import ATTACKS
from efface.core.result import Result

from .evaluation_inputs import EvaluationInputs
from .validation import ErasureLike, artifact_folder

if TYPE_CHECKING:
    from efface.benchmarks.evaluation import Evaluation


def check_control(attack: str, control: ErasureLike | None, replay: str | Path | None) -> None:
    """Raises `EffaceError` if a control is given for an attack that needs none, or for a replayed set."""
    if control is None:
        return
    if replay is not None:
        raise EffaceError("a replayed set cannot be compared with a control: leave out --replay or --control")
    if ATTACKS.card(attack).needs_control:
        return
    known = ", ".join(name for name in ATTACKS.names() if ATTACKS.card(name).needs_control)
    raise EffaceError(f"{attack} finds nothing in a model that never knew the concept: --control is for {known}")


def control_inputs(inputs: EvaluationInputs, control: ErasureLike | None) -> EvaluationInputs | None:
    """Returns the same benchmark with the control, an artifact for the same base model, in the erasure's place, if any.

    Raises:
        EffaceError: the control is the attacked erasure.
    """
    from efface.core.erasure import Erasure

    if control is None:
        return None
    loaded = Erasure.load(artifact_folder(control))
    if loaded.spec.hash == inputs.erasure.spec.hash:
        raise EffaceError("the control is the attacked erasure itself: give a model in which the concept never was")
    return replace(inputs, erasure=loaded)


def with_control(evaluation: Evaluation, control: Result, label: str) -> Evaluation:
    """Adds the reproduction rate of the control, and the success above it as ``asr_post``."""
    from efface.metrics.asr import above_control

    own = evaluation.result.score("reproduction_rate", label)
    other = control.score("reproduction_rate", label)
    assert own is not None
    assert other is not None  # both were scored as the same attack
    scores = [replace(other, metric="reproduction_rate_control"), above_control(own, other)]
    result = replace(evaluation.result, scores=(*evaluation.result.scores, *scores))
    return replace(evaluation, result=result)


def without_control_note(attack_set: AttackSet, scores: Sequence[str]) -> str:
    """Returns a line that explains a missing success rate; empty if there is one."""
    if "asr_post" in scores or "reproduction_rate" not in scores:
        return ""
    return (
        f"{attack_set.attack} also brings back what a model never knew: a success counts above a control model only "
        "(--control ARTIFACT)"
    )
