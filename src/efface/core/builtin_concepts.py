"""The concepts that ship: what papers report on and what people ask for, each with words, anchor, retain set, source and version."""

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
    """A concept that ships.

    Attributes:
        name: what it is asked for by: the concept's name, or for a template a name of its own.
        concept: with its retain set.
        version: raised with every change.
        source: who reports on it, or why it is here.
        template: whether it is a file to copy and fill in, not a concept.
    """

    name: str
    concept: Concept
    version: int
    source: str
    template: bool = False

    def to_yaml(self) -> str:
        """YAML that `Concept.from_yaml` reads, with source and version as comments."""
        what = "Fill in the words in capitals" if self.template else f"efface's {self.name}"
        return f"# {what}. Version {self.version}; {self.source}.\n{self.concept.to_yaml()}"


def names() -> tuple[str, ...]:
    """The names of all entries: styles, objects, nudity, templates."""
    return tuple(_entries())


def get_entry(name: str) -> BuiltinConcept:
    """The entry of a name, whatever its case.

    Raises:
        UnknownName: none; the nearest name is suggested.
    """
    found = {known.casefold(): item for known, item in _entries().items()}.get(" ".join(name.casefold().split()))
    if found is None:
        raise UnknownNameError("concept", name, names())
    return found


def get_builtin(name: str) -> Concept | None:
    """The concept of exactly this name, but for case; None where none ships.

    Raises:
        EffaceError: the name is a template's, in which nobody has filled in a concept.
    """
    known = {item.casefold() for item in names()}
    if " ".join(name.casefold().split()) not in known:
        return None
    found = get_entry(name)
    if found.template:
        raise EffaceError(
            f"{found.name} is to be filled in: `efface concepts show {found.name} > mine.yaml`, edit it, and erase mine.yaml"
        )
    return found.concept


def is_builtin(concept: Concept) -> bool:
    """Whether a concept is one that ships, as it ships."""
    return any(item.concept == concept and not item.template for item in _entries().values())


@cache
def _entries() -> dict[str, BuiltinConcept]:
    import yaml

    found: dict[str, BuiltinConcept] = {}
    for file in ("styles", "objects", "nudity", "templates"):
        text = files("efface.core").joinpath("data", "concepts", f"{file}.yaml").read_text(encoding="utf-8")
        shared = yaml.safe_load(text)
        for row in shared["concepts"]:
            item = _entry(row, shared)
            found[item.name] = item
    return found


def _entry(row: Mapping[str, Any], shared: Mapping[str, Any]) -> BuiltinConcept:
    """An entry with what its file says of all; of the retain set, what does not mention the concept."""
    own = {key: value for key, value in row.items() if key not in ("entry", "version", "source")}
    given = {**{key: shared[key] for key in _SHARED if key in shared}, **own}
    words = (given["name"], *given.get("synonyms", ()))
    given["retain_prompts"] = [prompt for prompt in given["retain_prompts"] if find_mention(prompt, words) is None]
    return BuiltinConcept(
        row.get("entry", row["name"]), Concept.from_dict(given), int(row["version"]), row["source"], "entry" in row
    )
