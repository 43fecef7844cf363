"""Concepts and settings from the arguments of a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from efface.core.builtin_concepts import get_builtin
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.io import user_file_errors
from efface.models.model_ref import BUNDLED, ModelRef


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


def build_concept(name: str, options: ConceptOptions, model: ModelRef | str | None = None) -> Concept:
    """Builds the concept that the command line describes.

    Args:
        name: a concept's name, or a YAML file, to whose fields the options are added.
        options: the other options. Without any of them, a name selects the built-in concept of that name if there is
            one; a bundled model has its own retain set and does not use built-in concepts.
        model: the model to erase from.
    """
    retain_prompts = () if options.retain_file is None else tuple(read_lines(options.retain_file))
    if name.endswith((".yaml", ".yml")):
        concept = Concept.from_yaml(Path(name))
        return replace(
            concept,
            synonyms=(*concept.synonyms, *options.synonyms),
            anchor=options.anchor or concept.anchor,
            retain_prompts=(*concept.retain_prompts, *retain_prompts),
        )
    builtin = get_builtin(name) if options == ConceptOptions() and str(model) not in BUNDLED else None
    return builtin or Concept(
        name,
        kind=options.kind or "object",
        synonyms=options.synonyms,
        anchor=options.anchor or "",
        retain_prompts=retain_prompts,
    )


def build_concepts(
    names: Sequence[str], concepts_file: Path | None, options: ConceptOptions, model: ModelRef | None
) -> list[Concept]:
    """Builds the concepts named on the command line and in a file.

    Args:
        names: names and YAML files from the command line.
        concepts_file: text file with one name per line; names of a file never select built-in concepts.
        options: options of all concepts; the first concept holds the retain prompts for all.
        model: the model to erase from.

    Raises:
        EffaceError: the file cannot be read or names no concept.
    """
    if concepts_file is not None:
        listed = read_lines(concepts_file)
        if not listed:
            raise EffaceError(f"{concepts_file} names no concept: write one name per line")
        names = [*names, *listed]
        options = replace(options, kind=options.kind or "object")
    without_retain_prompts = replace(options, retain_file=None)
    return [build_concept(name, without_retain_prompts if i else options, model) for i, name in enumerate(names)]


def read_lines(path: Path) -> list[str]:
    """Reads the lines of a UTF-8 text file, without surrounding spaces and empty lines."""
    with user_file_errors(path, "read"):
        text = path.read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


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
