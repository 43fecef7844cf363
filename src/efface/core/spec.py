"""The specification of a run: everything needed to repeat it. Its hash names folders and keys caches."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .concept import Concept, validate_concepts
from .errors import EffaceError, check_known_keys
from .serialization import json_hash, to_jsonable_dict


@dataclass(frozen=True)
class RunSpec:
    """One run of one method.

    Attributes:
        model: id of the base model, such as ``pocket``, or the path or repository it was loaded from.
        base: fingerprint of the base model by component, in the JSON form of the model layer.
        method: registered name of the method.
        config: every field of the method's configuration, defaults included.
        concepts: the concepts erased together; at least one.
        seed: the root seed.
        preset: name of the preset that the configuration started from.
        version: version of efface.

    Raises:
        EffaceError: concepts that contradict each other, or a value that JSON cannot hold.
    """

    model: str
    base: Mapping[str, Any]
    method: str
    config: Mapping[str, Any]
    concepts: tuple[Concept, ...]
    seed: int = 0
    preset: str = "paper"
    version: str = field(default_factory=lambda: package_versions(["efface"]).get("efface", "0"))

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", to_jsonable_dict(self.base, "base"))
        object.__setattr__(self, "config", to_jsonable_dict(self.config, "config"))
        object.__setattr__(self, "concepts", tuple(Concept.coerce(concept) for concept in self.concepts))
        for name in ("model", "method", "preset", "version"):
            if not isinstance(getattr(self, name), str):
                raise EffaceError(f"the run's {name} must be text, not {getattr(self, name)!r}")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise EffaceError(f"the seed must be a whole number, not {self.seed!r}")
        validate_concepts(self.concepts)

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields as JSON values; `from_dict` gives an equal spec."""
        return to_jsonable_dict({item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunSpec:
        """Reads what `to_dict` returned.

        Raises:
            UnknownNameError: a key that is not a field.
            EffaceError: a field that is missing or invalid.
        """
        check_known_keys("run field", data, (item.name for item in fields(cls)))
        try:
            return cls(**{**data, "concepts": tuple(Concept.coerce(concept) for concept in data["concepts"])})
        except (TypeError, KeyError) as error:
            raise EffaceError(f"the run's description is incomplete ({error})") from error

    @cached_property
    def hash(self) -> str:
        """The SHA-256 of the canonical JSON, 64 hexadecimal digits; equal runs have equal hashes on every platform."""
        return json_hash(self.to_dict())

    @property
    def short_hash(self) -> str:
        """The first 12 digits of the hash."""
        return self.hash[:12]

    @property
    def folder_name(self) -> str:
        """A readable file name, unique for each spec, such as ``esd-weapon-1a2b3c4d5e6f``."""
        names = (self.method, "-".join(concept.name for concept in self.concepts))
        words = (re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")[:40].rstrip("-") for name in names)
        return "-".join(word for word in (*words, self.short_hash) if word)

    def __hash__(self) -> int:
        return int(self.hash[:15], 16)


def package_versions(
    packages: Iterable[str] = ("efface", "torch", "diffusers", "transformers", "numpy", "safetensors"),
) -> dict[str, str]:
    """Returns the versions of Python and of installed packages from their metadata, without importing them."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
