"""Concepts and settings from the arguments of a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efface.core.builtin_concepts import get_builtin
from efface.core.concept import Concept
from efface.core.concept_files import YAML_SUFFIXES, ConceptFile, merge_settings, read_concept_file
from efface.core.errors import EffaceError
from efface.core.text_files import read_lines
from efface.models.model_ref import ALL_BUNDLED, ModelRef


@dataclass(frozen=True)
class ConceptOptions:
    """The options that describe a concept; None and empty values were not given.

    Attributes:
        synonyms: other words for the concept.
        anchor: text of the concept to generate instead.
        kind: object, style, identity or domain.
        retain_file: text file with one retain prompt per line.
    """

    synonyms: tuple[str, ...] = ()
    anchor: str | None = None
    kind: str | None = None
    retain_file: Path | None = None

    @property
    def retain_prompts(self) -> tuple[str, ...]:
        """The retain prompts in the file; raises `EffaceError` if it holds none."""
        if self.retain_file is None:
            return ()
        prompts = tuple(read_lines(self.retain_file))
        if not prompts:
            raise EffaceError(f"{self.retain_file} holds no retain prompts: write one per line, or leave it out")
        return prompts


def build_concept(name: str, options: ConceptOptions, model: ModelRef | str | None = None) -> Concept:
    """Builds the concept that a name and the command line's options describe.

    Args:
        name: a concept's name.
        options: the other options. Without any of them, a name selects the built-in concept of that name if there is
            one; a bundled model has its own retain set and does not use built-in concepts.
        model: the model to erase from.
    """
    is_bundled = str(model) in ALL_BUNDLED
    builtin = get_builtin(name) if options == ConceptOptions() and not is_bundled else None
    return builtin or Concept(
        name,
        kind=options.kind or "object",
        synonyms=options.synonyms,
        anchor=options.anchor or "",
        retain_prompts=options.retain_prompts,
    )


def build_concepts(
    names: Sequence[str], concepts_file: Path | None, options: ConceptOptions, model: ModelRef | str | None = None
) -> ConceptFile:
    """Builds the concepts named on the command line and in files, with the settings that the files state.

    Args:
        names: names and YAML files from the command line; options are added to the fields of a file's concepts.
        concepts_file: YAML, or text with one name per line; names of a file never select built-in concepts.
        options: options of all concepts; the first concept holds the retain prompts for all.
        model: the model to erase from.

    Raises:
        EffaceError: a file cannot be read or names no concept, or two files state different settings.
    """
    concepts: list[Concept] = []
    settings: dict[str, Any] = {}
    for name in [*names, *([] if concepts_file is None else [str(concepts_file)])]:
        own = options if not concepts else replace(options, retain_file=None)
        if not name.endswith(YAML_SUFFIXES) and name != str(concepts_file):
            concepts.append(build_concept(name, own, model))
            continue
        content = read_concept_file(Path(name))
        for i, concept in enumerate(content.concepts):
            concepts.append(_with_options(concept, replace(own, retain_file=None) if i else own, Path(name)))
        merge_settings(settings, content.settings, name)
    return ConceptFile(tuple(concepts), settings)


def _with_options(concept: Concept, options: ConceptOptions, path: Path) -> Concept:
    """Adds the options to a concept of a file; the kind is for names in a text file, since YAML states it."""
    kind = concept.kind if path.name.endswith(YAML_SUFFIXES) else options.kind or concept.kind
    templates = concept.templates if kind == concept.kind else ()
    return replace(
        concept,
        kind=kind,
        templates=templates,
        synonyms=(*concept.synonyms, *options.synonyms),
        anchor=options.anchor or concept.anchor,
        retain_prompts=(*concept.retain_prompts, *options.retain_prompts),
    )


def parse_settings(settings: Sequence[str] | None) -> dict[str, str]:
    """Splits ``name=value`` texts into a mapping.

    Raises:
        EffaceError: a text without ``=``.
    """
    values = {}
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        if not equals:
            raise EffaceError(f"--set {setting!r} is not of the form name=value: write --set steps=100, for example")
        values[name.strip()] = value.strip()
    return values
