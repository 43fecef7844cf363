"""The built-in concepts, each with words, anchor, retain prompts, source and version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from .concept import Concept, find_mention
from .errors import EffaceError, UnknownNameError

_SHARED = ("kind", "templates", "retain_prompts")


@dataclass(frozen=True)
class BuiltinConcept:
    """An entry of the list of built-in concepts.

    Attributes:
        name: name of the entry: the concept's name, or a template's own name.
        concept: the concept with its retain prompts.
        version: number that every change of the entry raises.
        source: the papers that report on the concept, or the reason for the entry.
        template: whether the entry is a file to copy and fill in instead of a concept.
    """

    name: str
    concept: Concept
    version: int
    source: str
    template: bool = False

    def to_yaml(self) -> str:
        """Returns YAML that `Concept.from_yaml` reads, with source and version in a comment."""
        title = "Fill in the words in capitals" if self.template else f"efface's {self.name}"
        return f"# {title}. Version {self.version}; {self.source}.\n{self.concept.to_yaml()}"


def names() -> tuple[str, ...]:
    """Returns the names of all entries: styles, objects, nudity and templates."""
    return tuple(_entries())


def get_entry(name: str) -> BuiltinConcept:
    """Returns the entry of a name, ignoring case.

    Raises:
        UnknownNameError: no such entry; the message suggests the nearest name.
    """
    entry = {known.casefold(): item for known, item in _entries().items()}.get(_normalize(name))
    if entry is None:
        raise UnknownNameError("concept", name, names())
    return entry


def get_builtin(name: str) -> Concept | None:
    """Returns the built-in concept of exactly this name, ignoring case, or None.

    Raises:
        EffaceError: the name of a template, which has to be filled in first.
    """
    if _normalize(name) not in {item.casefold() for item in names()}:
        return None
    entry = get_entry(name)
    if entry.template:
        raise EffaceError(
            f"{entry.name} is to be filled in: run `efface concepts show {entry.name} > mine.yaml`, edit it, and "
            "erase mine.yaml"
        )
    return entry.concept


def is_builtin(concept: Concept) -> bool:
    """Tells whether a concept equals a built-in concept in every field."""
    return any(item.concept == concept and not item.template for item in _entries().values())


def _normalize(name: str) -> str:
    return " ".join(name.casefold().split())


@cache
def _entries() -> dict[str, BuiltinConcept]:
    import yaml  # not needed to import this module

    entries: dict[str, BuiltinConcept] = {}
    for file in ("styles", "objects", "nudity", "templates"):
        text = files("efface.core").joinpath("data", "concepts", f"{file}.yaml").read_text(encoding="utf-8")
        shared = yaml.safe_load(text)
        for row in shared["concepts"]:
            item = _entry(row, shared)
            entries[item.name] = item
    return entries


def _entry(row: Mapping[str, Any], shared: Mapping[str, Any]) -> BuiltinConcept:
    """Builds an entry from its row and its file's shared fields; leaves out retain prompts that mention the concept."""
    row_fields = {key: value for key, value in row.items() if key not in ("entry", "version", "source")}
    fields = {**{key: shared[key] for key in _SHARED if key in shared}, **row_fields}
    words = (fields["name"], *fields.get("synonyms", ()))
    fields["retain_prompts"] = [prompt for prompt in fields["retain_prompts"] if find_mention(prompt, words) is None]
    return BuiltinConcept(
        row.get("entry", row["name"]), Concept.from_dict(fields), int(row["version"]), row["source"], "entry" in row
    )
