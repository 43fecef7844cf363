"""Reads files of concepts: efface's own YAML, LECO's prompt settings, and text with one name per line.

LECO (https://github.com/p1atdev/LECO) and the trainers that follow it describe an erasure as a list of entries:

    - target: van gogh          # where the concept is erased from; here it must be the concept itself
      positive: van gogh        # the concept; by default the target
      unconditional: ""         # the prediction that guidance starts from; here "" or the same as neutral
      neutral: ""               # what takes the concept's place; here the anchor
      action: erase
      guidance_scale: 1.0       # strength of the negative guidance; here the setting negative_guidance
      batch_size: 1
      resolution: 512           # with dynamic_resolution and dynamic_crops not read: a model has one resolution
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .concept import Concept
from .errors import EffaceError, check_known_keys
from .registry import METHODS
from .text_files import parse_yaml, read_lines, read_text

YAML_SUFFIXES = (".yaml", ".yml")
_LECO_TEXTS = ("target", "positive", "unconditional", "neutral", "action")
_LECO_SETTINGS = {"guidance_scale": "negative_guidance", "batch_size": "batch_size"}
"""Names of the settings of efface's methods, by LECO's names."""
_LECO_UNUSED = ("resolution", "dynamic_resolution", "dynamic_crops")


@dataclass(frozen=True)
class ConceptFile:
    """The content of a file of concepts.

    Attributes:
        concepts: the concepts, in the file's order.
        settings: settings of the method that the file states, by name.
    """

    concepts: tuple[Concept, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def settings_for(self, method: str) -> dict[str, Any]:
        """Returns the settings that a method has; warns of the others."""
        if not self.settings:
            return {}
        known = METHODS.setting_names(method)
        if other := [name for name in self.settings if name not in known]:
            warnings.warn(f"{method} has no setting {' and '.join(other)}: the file's value is not used", stacklevel=2)
        return {name: value for name, value in self.settings.items() if name in known}


def merge_settings(settings: dict[str, Any], more: Mapping[str, Any], where: str) -> None:
    """Adds settings to others in place.

    Args:
        settings: the settings so far.
        more: settings to add.
        where: the file that states them, for the message.

    Raises:
        EffaceError: a setting has two values; one run has one.
    """
    for name, value in more.items():
        if settings.setdefault(name, value) != value:
            raise EffaceError(f"{where}: {name} is {value!r}, elsewhere {settings[name]!r}: give the same everywhere")


def read_concept_file(path: Path) -> ConceptFile:
    """Reads a file of concepts: YAML by its suffix, else text with one name per line.

    Raises:
        EffaceError: the file cannot be read, names no concept, or an entry is invalid.
    """
    if path.suffix.lower() not in YAML_SUFFIXES:
        names = read_lines(path)
        if not names:
            raise EffaceError(f"{path} names no concept: write one name per line")
        return ConceptFile(tuple(Concept(name) for name in names))
    data = parse_yaml(read_text(path), str(path))
    if isinstance(data, Mapping) and "prompts_file" in data:
        raise EffaceError(f"{path} is a trainer's configuration: give its prompts_file ({data['prompts_file']!r})")
    entries = data if isinstance(data, list) else [data]
    if not entries:
        raise EffaceError(f"{path} names no concept: write 'name: weapon', for example")
    if wrong := [entry for entry in entries if not isinstance(entry, Mapping)]:
        raise EffaceError(
            f"{path} holds a list with {wrong[0]!r}: each concept must be a mapping of its fields, such as "
            "'name: weapon'; names alone belong into a text file, one per line"
        )
    is_leco = ["name" not in entry and "target" in entry for entry in entries]
    if not any(is_leco):
        return ConceptFile(tuple(Concept.coerce(entry) for entry in entries))
    if not all(is_leco):
        raise EffaceError(f"{path} mixes efface's concepts (name) and LECO's (target): write all in one form")
    return _from_leco(entries, path)


def _from_leco(entries: Sequence[Mapping[str, Any]], path: Path) -> ConceptFile:
    """Makes concepts and settings from LECO's entries.

    Raises:
        EffaceError: an entry that no erasure is equal to, or two entries with different settings.
    """
    concepts: list[Concept] = []
    settings: dict[str, Any] = {}
    for number, entry in enumerate(entries, 1):
        where = f"{path}, entry {number}"
        check_known_keys("LECO field", entry, (*_LECO_TEXTS, *_LECO_SETTINGS, *_LECO_UNUSED))
        concepts.append(_leco_concept(entry, where))
        stated = {ours: entry[theirs] for theirs, ours in _LECO_SETTINGS.items() if entry.get(theirs) is not None}
        merge_settings(settings, stated, where)
    if unused := [name for name in _LECO_UNUSED if any(name in entry for entry in entries)]:
        warnings.warn(f"{path}: {', '.join(unused)} not used: a model has one resolution", stacklevel=3)
    return ConceptFile(tuple(concepts), settings)


def _leco_concept(entry: Mapping[str, Any], where: str) -> Concept:
    """Makes the concept of one of LECO's entries.

    Raises:
        EffaceError: the entry does not erase, or erases from one prompt only or relative to another prompt.
    """
    texts = {name: entry.get(name) for name in _LECO_TEXTS}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise EffaceError(f"{where}: {name} must be text, not {text!r}: put it into quotation marks")
    if (texts["action"] or "erase") != "erase":
        raise EffaceError(f"{where}: the action {texts['action']!r} is not supported: efface erases (action: erase)")
    target = texts["target"]
    positive = target if texts["positive"] is None else texts["positive"]
    unconditional = texts["unconditional"] or ""
    neutral = unconditional if texts["neutral"] is None else texts["neutral"]
    if target != positive:
        raise EffaceError(
            f"{where}: target {target!r} and positive {positive!r} differ; efface erases a concept from all prompts: "
            "give both the concept's name"
        )
    if unconditional not in ("", neutral):
        raise EffaceError(
            f"{where}: unconditional {unconditional!r} is not supported: give '' or the same text as neutral"
        )
    return Concept(str(positive), anchor=str(neutral))
