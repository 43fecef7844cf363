"""The commands that make an artifact and its evidence again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from efface.core.concept import Concept
from efface.core.spec import RunSpec

from .evidence_loader import LoadedAttack, LoadedEvaluation


def concept_file(concept: Concept) -> str:
    """A file name for a concept's YAML, such as ``weapon.yaml``."""
    return f"{re.sub(r'[^a-z0-9]+', '-', concept.name.lower()).strip('-') or 'concept'}.yaml"


def erase_command(spec: RunSpec, folder: str) -> str:
    """``efface erase`` with every field that a command line can hold."""
    words = ["efface", "erase", *(concept_file(concept) for concept in spec.concepts)]
    words += [
        "--model",
        spec.model,
        "--method",
        spec.method,
        "--preset",
        spec.preset,
        "--seed",
        str(spec.seed),
        "--out",
        folder,
    ]
    return _spelt(words, settings(spec.config))


def erase_commands(spec: RunSpec, folder: str) -> list[str]:
    """What makes the erasure: one command, or for a composed one a command a part."""
    parts = spec.config.get("parts") if spec.method == "compose" else None
    if not isinstance(parts, list):
        return [erase_command(spec, folder)]
    made = [erase_command(RunSpec.from_dict(part), f"{folder}-{i}") for i, part in enumerate(parts, 1)]
    return [*made, "# then efface.core.erasure.compose joins the parts, in this order"]


def settings(config: Mapping[str, Any]) -> list[str]:
    """``name=value`` for every number, text and truth value."""
    return [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in config.items()
        if _plain(value)
    ]


def evaluate_command(evaluation: LoadedEvaluation, folder: str) -> str:
    """``efface evaluate`` with the benchmark, part and seed that the result names."""
    about = evaluation.result.metadata
    benchmark = about.get("benchmark")
    named = benchmark if isinstance(benchmark, Mapping) else {}
    words = ["efface", "evaluate", folder]
    for option, value in (
        ("--benchmark", named.get("name")),
        ("--part", named.get("part")),
        ("--seed", about.get("seed")),
    ):
        words += [] if value is None else [option, str(value)]
    return _spelt(words + ([] if about.get("limit") is None else ["--limit", str(about["limit"])]))


def attack_command(attack: LoadedAttack, folder: str) -> str:
    """``efface attack`` with the attack's configuration."""
    return _spelt(["efface", "attack", folder, "--attack", attack.name], settings(attack.config))


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _spelt(words: Sequence[str], values: Sequence[str] = ()) -> str:
    """One command, a setting a line."""
    return " \\\n    ".join([shlex.join(words), *(shlex.join(["--set", value]) for value in values)])
