"""The settings of an attack that differ from its own, the folder named by them, and the set that is replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from efface.core.attack_label import attack_label
from efface.core.attack_set import AttackSet
from efface.core.evaluation_evidence import ATTACKS as ATTACKS_FOLDER
from efface.core.image_files import with_image_hash
from efface.core.manifest import EVIDENCE
from efface.core.output_files import free_folder
from efface.core.registry import ATTACKS
from efface.core.serialization import to_jsonable, to_jsonable_dict

from .attack_control import check_control
from .validation import ErasureLike


def replayed_set(
    attack: str, preset: str | None, config: Mapping[str, Any] | None, replay: str | Path | None,
    control: ErasureLike | None,
) -> AttackSet | None:  # fmt: skip
    """Returns the attack set to replay; without one, checks the attack's name and settings and returns None."""
    check_control(attack, control, replay)
    if replay is not None:
        return AttackSet.load(replay)
    ATTACKS.validate_config(attack, preset, "", config or {})
    return None


def changed_settings(function: Any, preset: str | None, model: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The attack's settings that differ from those of the model's own preset; a folder of images by its content."""
    from efface.execution import resolve_config

    own, chosen = (
        asdict(resolve_config(function, *options)[0]) for options in ((None, model, {}), (preset, model, overrides))
    )
    changed = {name: value for name, value in to_jsonable_dict(chosen).items() if value != to_jsonable(own[name])}
    return with_image_hash(changed)


def attack_folder(artifact: Path, attack_set: AttackSet, run_hash: str, other_benchmark: str) -> Path:
    """Returns the folder of this very set if the evidence holds it, else the first free one for its label.

    Args:
        artifact: folder of the attacked erasure.
        attack_set: the set.
        run_hash: hash of the erasure's run.
        other_benchmark: name of the benchmark, if it is not the one of the erasure's model and concept.
    """
    settings: dict[str, Any] = {"on": other_benchmark} if other_benchmark else {}
    settings |= attack_set.deviations
    if attack_set.erasure_hash != run_hash:
        settings["found-on"] = attack_set.erasure_hash[:8] or "base"
    settings |= {"seed": attack_set.seed} if attack_set.seed else {}
    settings |= {"limit": attack_set.limit} if attack_set.limit is not None else {}
    label = attack_label(attack_set.attack, settings)
    parent = artifact / EVIDENCE / ATTACKS_FOLDER
    return free_folder(parent, label, lambda path: AttackSet.load(path).same_search(attack_set))
