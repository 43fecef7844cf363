"""Prompt templates: the bundled library (``data/templates*.txt``), template files, and templates without a concept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from efface.core.concept import PLACEHOLDER, Concept, fill_templates
from efface.core.errors import EffaceError
from efface.core.subsample import evenly_spaced
from efface.core.text_files import read_text

_OBJECT_BEFORE_PLACE = (
    r"\b(?:an?|the|my|one) \{\} (?:in|on|at|among|by) (?=the |an? |outer )|\{\} (?:in|on|at|among|by) (?=the |outer )"
)
_STYLE_OF_SUBJECT = (
    r"\b(?:an?|the) \{\} of (?=\w)|,? (?:in|as) (?:the style of )?(?:an? )?\{\}(?: style)?$|, \{\}$"
    r"|\{\} (?=(?:painting|picture|image|photo) of )"
)
_CONCEPT_WITH_CONTEXT = f"{_OBJECT_BEFORE_PLACE}|{_STYLE_OF_SUBJECT}"
_CONCEPT = r"(\b(of|with|by) )?(\b(an?|the|my|one) )?\{\}"


@cache
def template_library(kind: str = "object") -> tuple[str, ...]:
    """Returns the bundled templates for a kind of concept; those for a style name other subjects."""
    name = "templates_style.txt" if kind == "style" else "templates.txt"
    return _parse(files("efface.ops.text").joinpath("data", name).read_text(encoding="utf-8"), name)


def read_templates(path: str | Path) -> tuple[str, ...]:
    """Reads a file of templates, one a line.

    Raises:
        EffaceError: a file that cannot be read, is empty, or has a line without ``{}``.
    """
    return _parse(read_text(Path(path)), str(path))


def library_templates(concept: Concept) -> tuple[str, ...]:
    """Returns the templates to train on: the concept's own library, else the bundled one for its kind."""
    return templates_for_kind(concept.template_library or template_library(concept.kind), concept.kind)


def select_templates(concept: Concept, limit: int = 0) -> tuple[str, ...]:
    """Returns the library's templates without the bare ``{}``, at most ``limit`` as a fixed subset; 0 for all."""
    templates = evenly_spaced(library_templates(concept), limit or None)
    return tuple(template for template in templates if template != PLACEHOLDER)


def concept_templates(concept: Concept, templates: Sequence[str], limit: int | None = None) -> tuple[str, ...]:
    """Fills at most ``limit`` of the templates with the concept's name and synonyms."""
    return fill_templates(evenly_spaced(templates_for_kind(templates, concept.kind), limit), concept.words)


def templates_for_kind(templates: Sequence[str], kind: str) -> tuple[str, ...]:
    """Removes the articles before ``{}`` for kinds of concepts that are proper names."""
    if kind in ("object", "domain", "style"):
        return tuple(templates)
    return tuple(dict.fromkeys(re.sub(r"\ban? \{\}", PLACEHOLDER, template) for template in templates))


def names_context(template: str) -> bool:
    """Whether a template names something besides the concept, such as a place, or the subject of a style."""
    return re.search(_CONCEPT_WITH_CONTEXT, template) is not None


def remove_concept(template: str) -> str:
    """Returns the text of a template without the concept.

    ``a sketch of a {} in the woods`` becomes ``a sketch of the woods``, ``a {} of a dog`` becomes ``a dog``. A template
    that names nothing else, ``a sketch of a {}``, becomes ``a sketch``: for this prompt a model may generate any
    subject, occasionally the concept.
    """
    text = re.sub(_CONCEPT_WITH_CONTEXT if names_context(template) else _CONCEPT, "", template)
    return " ".join(text.split()).strip(" ,")


def _parse(text: str, source: str) -> tuple[str, ...]:
    """Returns the distinct non-empty lines of a text; ``source`` names it in errors."""
    templates = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not templates:
        raise EffaceError(f"{source} has no templates: write one a line, such as 'a photo of a {PLACEHOLDER}'")
    if invalid := [template for template in templates if PLACEHOLDER not in template]:
        raise EffaceError(f"{source}: {invalid[0]!r} has no {PLACEHOLDER}: write it in place of the concept")
    return templates
