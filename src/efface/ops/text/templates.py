"""The template library: sentences around a concept, so that what is erased is its word and not one sentence (``data/templates.txt``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from efface.core.concept import PLACEHOLDER, Concept, fill_templates
from efface.core.errors import EffaceError
from efface.core.io import user_file_errors
from efface.core.subsample import evenly_spaced


@cache
def template_library(kind: str = "object") -> tuple[str, ...]:
    """The templates that ship for a kind of concept: sentences about it, or for a style about other things."""
    name = "templates_style.txt" if kind == "style" else "templates.txt"
    return _lines(files("efface.ops.text").joinpath("data", name).read_text(encoding="utf-8"), name)


def read_templates(path: str | Path) -> tuple[str, ...]:
    """The templates of a file, one a line.

    Raises:
        EffaceError: the file cannot be read, is empty, or has a line without ``{}``.
    """
    with user_file_errors(Path(path), "read"):
        return _lines(Path(path).read_text(encoding="utf-8"), str(path))


def select_templates(kind: str, path: str = "", limit: int = 0) -> tuple[str, ...]:
    """So many (0: all) of a file's templates, or of the library's, for a kind of concept, evenly spread; none that is the concept alone."""
    given = templates_for_kind(read_templates(path) if path else template_library(kind), kind)
    return tuple(template for template in evenly_spaced(given, limit or None) if template != PLACEHOLDER)


def concept_templates(concept: Concept, templates: Sequence[str], limit: int | None = None) -> tuple[str, ...]:
    """The concept's words in so many of the templates."""
    return fill_templates(evenly_spaced(templates_for_kind(templates, concept.kind), limit), concept.words)


def templates_for_kind(templates: Sequence[str], kind: str) -> tuple[str, ...]:
    """The templates for a kind of concept: names of persons go without an article."""
    if kind in ("object", "domain", "style"):
        return tuple(templates)
    return tuple(dict.fromkeys(re.sub(r"\ban? \{\}", PLACEHOLDER, template) for template in templates))


def _lines(text: str, where: str) -> tuple[str, ...]:
    rows = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not rows:
        raise EffaceError(f"{where} has no templates: write one a line, such as 'a photo of a {PLACEHOLDER}'")
    if wrong := [row for row in rows if PLACEHOLDER not in row]:
        raise EffaceError(f"{where}: {wrong[0]!r} has no {PLACEHOLDER} for the concept")
    return rows


_PLACE = (
    r"\b(?:an?|the|my|one) \{\} (?:in|on|at|among|by) (?=the |an? |outer )|\{\} (?:in|on|at|among|by) (?=the |outer )"
)
_STYLE = (
    r"\b(?:an?|the) \{\} of (?=\w)|,? (?:in|as) (?:the style of )?(?:an? )?\{\}(?: style)?$|, \{\}$"
    r"|\{\} (?=(?:painting|picture|image|photo) of )"
)


def names_context(template: str) -> bool:
    """Whether something to draw is left of a template without its concept, such as the woods, or what is drawn in a style."""
    return re.search(f"{_PLACE}|{_STYLE}", template) is not None


def remove_concept(template: str) -> str:
    """What is left of a template without the concept.

    ``a sketch of a {} in the woods`` becomes ``a sketch of the woods``, ``a {} of a dog`` becomes ``a dog``; where nothing else is named,
    ``a sketch of a {}`` becomes ``a sketch``, for which a model draws whatever it likes, now and then the concept.
    """
    text = (
        re.sub(f"{_PLACE}|{_STYLE}", "", template)
        if names_context(template)
        else re.sub(r"(\b(of|with|by) )?(\b(an?|the|my|one) )?\{\}", "", template)
    )
    return " ".join(text.split()).strip(" ,")
