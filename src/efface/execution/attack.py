"""Runs an attack on a model with an erasure applied."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from efface.core.attack_set import AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.models.editable import EditableModel
from efface.models.memory import oom_as_user_error
from efface.ops.adversarial.attack_context import AttackContext, erasure_applied, snapshot_originals
from efface.ops.editing.apply import active_erasures
from efface.ops.training.progress import Progress, Silent

from .configuration import OUT_OF_MEMORY_HINT, check_family, find_card, resolve_config


def run_attack(
    model: EditableModel, erasure: Erasure, concept: Concept, tasks: Sequence[AttackTask], function: Any, *,
    phrases: Sequence[str] = (), overrides: Mapping[str, Any], preset: str | None = None, seed: int = 0,
    allow_base_mismatch: bool = False, progress: Progress | None = None,
) -> AttackSet:  # fmt: skip
    """Runs an attack on a model with the erasure applied, and measures its duration.

    The result may hold prompts that the content policy does not allow (see `drop_refused`).

    Args:
        model: Base model without the erasure.
        erasure: Erasure to attack.
        concept: Concept to bring back.
        tasks: Prompts and seeds to start from.
        function: A registered attack.
        phrases: Other words for the concept, for attacks whose configuration has an empty field ``phrases``.
        overrides: Values for fields of the attack's configuration.
        preset: Name of a preset; None selects the model's own, else ``paper``.
        seed: Root seed.
        allow_base_mismatch: Accept a base model other than the erasure's own.
        progress: Progress display; None shows nothing.
    """
    check_family(function, model)
    config, _ = resolve_config(function, preset, model.name, overrides, model.family)
    if phrases and getattr(config, "phrases", None) == ():
        config = replace(config, phrases=tuple(phrases))
    originals = snapshot_originals(model, erasure)
    with erasure_applied(model, erasure, allow_base_mismatch) as erasure_disabled:
        context = AttackContext(
            seed=seed, device=model.device, progress=progress or Silent(), original_params=originals,
            erasure_disabled=erasure_disabled,
        )  # fmt: skip
        base, start = active_erasures(model)[-1].base, time.perf_counter()
        with oom_as_user_error(OUT_OF_MEMORY_HINT):
            attack_set: AttackSet = function(model, concept, tasks, config, context)
        budget = Budget(attack_set.budget.steps, time.perf_counter() - start)
    return replace(attack_set, budget=budget, erasure_hash=erasure.spec.hash, base_fingerprint=base)


def attack_batch_size(function: Any, preset: str | None, model: str, overrides: Mapping[str, Any]) -> int | None:
    """Number of prompts that an attack searches together: its ``batch_size``, or 1.

    None if the attack searches one result for all prompts, so that its tasks cannot be divided among processes.
    """
    config, _ = resolve_config(function, preset, model, overrides)
    card = find_card(function)
    return int(getattr(config, "batch_size", 1)) if card is not None and card.batch_independent else None


def drop_refused(attack_set: AttackSet) -> AttackSet:
    """Removes the prompts that the content policy does not allow, and warns how many they are."""
    allowed = attack_set.without_refused()
    num_refused = len(attack_set.prompts) - len(allowed.prompts)
    if num_refused:
        warnings.warn(
            f"the content policy refuses {num_refused} of {len(attack_set.prompts)} prompts of the attack: left out",
            stacklevel=2,
        )
    return allowed
