"""The settings of an attack: those that differ from its own, and the set that is replayed instead of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from efface.core.attack_set import AttackSet
from efface.core.registry import ATTACKS
from efface.core.serialization import to_jsonable, to_jsonable_dict


def replayed_set(
    attack: str, preset: str | None, config: Mapping[str, Any] | None, replay: str | Path | None
) -> AttackSet | None:
    """Returns the attack set to replay; without one, checks the attack's name and settings and returns None."""
    if replay is not None:
        return AttackSet.load(replay)
    ATTACKS.validate_config(attack, preset, "", config or {})
    return None


def changed_settings(function: Any, preset: str | None, model: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The attack's settings that differ from those of the model's own preset."""
    from efface.execution import resolve_config

    own, chosen = (
        asdict(resolve_config(function, *options)[0]) for options in ((None, model, {}), (preset, model, overrides))
    )
    return {name: value for name, value in to_jsonable_dict(chosen).items() if value != to_jsonable(own[name])}
