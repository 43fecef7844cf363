"""A cell of a sweep: one erasure, and one attack on it or its evaluation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from efface.core.serialization import json_hash, to_jsonable_dict
from efface.core.spec import RunSpec

EVALUATION = "evaluation"
"""Name of the cell that evaluates an erasure without an attack."""


@dataclass(frozen=True)
class Variant:
    """A method or an attack with its settings.

    Attributes:
        name: its name in the sweep; the method's or attack's own name unless the grid gives another.
        function: registered name.
        preset: name of the preset.
        settings: settings that the grid states.
        config: all settings, defaults included; the hash of the images in place of their folder.
    """

    name: str
    function: str
    preset: str
    settings: Mapping[str, Any]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Control:
    """A model in which the concept never was.

    Attributes:
        folder: folder of the artifact that makes it of the base model.
        hash: hash of the artifact's run.
    """

    folder: str
    hash: str


@dataclass(frozen=True)
class Cell:
    """One measurement of a sweep.

    Attributes:
        run: the erasure, without the fingerprint of its base model.
        method: the method with its settings.
        benchmark: name or file of the benchmark.
        benchmark_name: its name.
        benchmark_hash: hash of its content.
        attack: the attack; None for the evaluation.
        split: split of the benchmark.
        limit: maximum number of prompts, or of images per group.
        control: the control, for an attack that needs one.
    """

    run: RunSpec
    method: Variant
    benchmark: str
    benchmark_name: str
    benchmark_hash: str
    attack: Variant | None
    split: str
    limit: int | None
    control: Control | None = None

    @property
    def attack_name(self) -> str:
        """Name of the attack in the sweep, or `EVALUATION`."""
        return EVALUATION if self.attack is None else self.attack.name

    @property
    def title(self) -> str:
        """The cell in words, such as ``esd pocket-weapon seed 0 synonyms``."""
        return f"{self.method.name} {self.benchmark_name} seed {self.run.seed} {self.attack_name}"

    def to_dict(self) -> dict[str, Any]:
        """Returns everything that decides the cell's result, as JSON values."""
        fields = ("benchmark_name", "benchmark_hash", "split", "limit")
        attack = self.attack and {"attack": self.attack.function, "config": self.attack.config}
        own = {name: getattr(self, name) for name in fields}
        own |= {"control": self.control.hash} if self.control else {}
        return to_jsonable_dict({"run": self.run.to_dict(), "attack": attack, **own})

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `to_dict`."""
        return json_hash(self.to_dict())

    @property
    def folder_name(self) -> str:
        """Name of the cell's folder: readable, and unique by its hash."""
        words = (self.method.name, self.benchmark_name, self.attack_name)
        return "-".join([*(re.sub(r"[^A-Za-z0-9_-]+", "-", word)[:40] for word in words), self.hash[:12]])
