"""The commands that make an artifact and its evidence again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from efface.core.concept import Concept
from efface.core.spec import RunSpec

from .evidence import LoadedAttack, LoadedEvaluation


def concept_file(concept: Concept) -> str:
    """File name for a concept's YAML, such as ``weapon.yaml``."""
    stem = re.sub(r"[^a-z0-9]+", "-", concept.name.lower()).strip("-")
    return f"{stem or 'concept'}.yaml"


def erase_command(spec: RunSpec, folder: str) -> str:
    """``efface erase`` with every configuration field that a command line can hold."""
    words = ["efface", "erase", *(concept_file(concept) for concept in spec.concepts)]
    words += ["--model", spec.model, "--method", spec.method, "--preset", spec.preset]
    words += ["--seed", str(spec.seed), "--out", folder]
    return _command_line(words, settings(spec.config))


def erase_commands(spec: RunSpec, folder: str) -> list[str]:
    """The commands that make the erasure: one, or for a composed erasure one for each part."""
    if spec.method == "audit":
        words = ["efface", "audit", str(spec.config.get("model")), "--base", spec.model]
        return [_command_line([*words, "--concept", spec.concepts[0].name, "--out", folder])]
    parts = spec.config.get("parts") if spec.method == "compose" else None
    if not isinstance(parts, list):
        return [erase_command(spec, folder)]
    commands = [erase_command(RunSpec.from_dict(part), f"{folder}-{i}") for i, part in enumerate(parts, 1)]
    parts_folders = [f"{folder}-{i}" for i in range(1, len(parts) + 1)]
    return [*commands, _command_line(["efface", "compose", *parts_folders, "--out", folder], [])]


def settings(config: Mapping[str, Any]) -> list[str]:
    """``name=value`` for every field that is a number, a text or a truth value."""
    texts = {
        name: _setting_text(value) for name, value in config.items() if isinstance(value, str | int | float | bool)
    }
    return [f"{name}={text}" for name, text in texts.items()]


def evaluate_command(evaluation: LoadedEvaluation, folder: str) -> str:
    """``efface evaluate`` with the benchmark, split and seed that the result records."""
    metadata = evaluation.result.metadata
    benchmark = metadata.get("benchmark")
    benchmark = benchmark if isinstance(benchmark, Mapping) else {}
    options = {
        "--benchmark": benchmark.get("name"),
        "--split": benchmark.get("split"),
        "--seed": metadata.get("seed"),
        "--limit": metadata.get("limit"),
    }
    words = ["efface", "evaluate", folder]
    for option, value in options.items():
        if value is not None:
            words += [option, str(value)]
    return _command_line(words)


def attack_command(attack: LoadedAttack, folder: str) -> str:
    """``efface attack`` with the attack's configuration, seed and limit."""
    words = ["efface", "attack", folder, "--attack", attack.name]
    words += ["--seed", str(attack.seed)] if attack.seed else []
    words += ["--limit", str(attack.limit)] if attack.limit is not None else []
    return _command_line(words, settings(attack.config))


def _setting_text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _command_line(words: Sequence[str], settings: Sequence[str] = ()) -> str:
    """One shell command with each ``--set`` on a line of its own."""
    return " \\\n    ".join([shlex.join(words), *(shlex.join(["--set", setting]) for setting in settings)])
