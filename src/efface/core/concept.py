"""The concept to erase: its name, synonyms, anchor, prompts and retain prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import EffaceError, check_known_keys
from .io import atomic_write_text
from .policy import check_prompts
from .serialization import OMIT_EMPTY, to_jsonable_dict
from .text_fields import clean_line, clean_lines, fold_case
from .text_files import parse_yaml, read_text

PLACEHOLDER = "{}"
TEMPLATES: dict[str, tuple[str, ...]] = {
    "style": ("a picture in {} style", "an image in the style of {}", "{} style"),
    "object": ("a photo of a {}", "a picture of a {}", "a {}", "{}"),
    "domain": ("a photo of a {}", "a picture of a {}", "a {}", "{}"),
    "": ("a photo of {}", "a picture of {}", "an image of {}", "{}"),
}

LISTS = ("prompts", "synonyms", "retain_prompts", "templates", "template_library")


@dataclass(frozen=True)
class Concept:
    """A target concept.

    Attributes:
        name: name of the concept, such as ``weapon``.
        kind: ``object``, ``style``, ``identity``, ``domain`` or another word; it chooses the default templates.
        prompts: prompts that show the concept; methods use the filled templates if there are none.
        synonyms: other words for the concept that the method may use.
        anchor: text of the concept to generate instead; ``""`` is the unconditional prompt.
        retain_prompts: prompts whose images must not change; none may contain the name or a synonym as whole words.
        templates: prompts with a ``{}`` for the name; by default those of the kind (`TEMPLATES`).
        template_library: templates to train on in place of the bundled library; ``()`` for the bundled ones.

    Raises:
        EffaceError: a field that is empty, has another type, or contradicts another field.
        ContentPolicyError: a text, or a filled template, that the content policy refuses.
    """

    name: str
    kind: str = "object"
    prompts: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    anchor: str = ""
    retain_prompts: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    template_library: tuple[str, ...] = field(default=(), metadata=OMIT_EMPTY)

    def __post_init__(self) -> None:
        for name in ("name", "kind", "anchor"):
            object.__setattr__(self, name, clean_line(getattr(self, name), name))
        for name in LISTS:
            object.__setattr__(self, name, clean_lines(getattr(self, name), name))
        for name in LISTS:
            check_prompts(getattr(self, name), f"one of the concept's {name}")
        check_prompts((self.name, self.anchor), "the concept's name or anchor")
        if not self.name:
            raise EffaceError("the concept's name is empty: name the concept to erase, for example 'weapon'")
        if not self.templates:
            object.__setattr__(self, "templates", TEMPLATES.get(self.kind, TEMPLATES[""]))
        templates = (*self.templates, *self.template_library)
        for template in templates:
            if PLACEHOLDER not in template:
                raise EffaceError(
                    f"template {template!r} of {self.name!r} has no {PLACEHOLDER} for the name: write one such as "
                    f"'a photo of {PLACEHOLDER}'"
                )
        filled = (template.replace(PLACEHOLDER, word) for template in templates for word in self.words)
        check_prompts(filled, "a template with one of its words")
        if self.anchor and fold_case(self.anchor) in {fold_case(word) for word in self.words}:
            raise EffaceError(
                f"the anchor of {self.name!r} is the concept itself: give another concept, or '' for the empty prompt"
            )
        _check_retain_prompts(self, self.retain_prompts)

    @classmethod
    def coerce(cls, concept: str | Mapping[str, Any] | Concept) -> Concept:
        """Returns a concept unchanged, or makes one from its name or a mapping of its fields."""
        if isinstance(concept, Concept):
            return concept
        return cls(concept) if isinstance(concept, str) else cls.from_dict(concept)

    @property
    def words(self) -> tuple[str, ...]:
        """The name and the synonyms, each once."""
        return tuple(dict.fromkeys((self.name, *self.synonyms)))

    def render_prompts(
        self, words: Iterable[str] | None = None, templates: Iterable[str] | None = None
    ) -> tuple[str, ...]:
        """Fills every template with every word; by default the concept's templates with its name."""
        return fill_templates(
            self.templates if templates is None else templates, (self.name,) if words is None else words
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields as lists and texts; `from_dict` gives an equal concept."""
        return to_jsonable_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Concept:
        """Makes a concept from a mapping of its fields; a value of None counts as a missing field.

        Raises:
            UnknownNameError: a key that is not a field; the message suggests the nearest.
            EffaceError: an invalid field.
        """
        if not isinstance(data, Mapping):
            raise EffaceError(
                f"a concept must be a mapping of its fields, such as 'name: weapon', not {type(data).__name__}"
            )
        check_known_keys("concept field", data, (known.name for known in fields(cls)))
        given = {key: value for key, value in data.items() if value is not None}
        return cls(**{"name": "", **given})

    def to_yaml(self) -> str:
        """Returns YAML text of all fields; `from_yaml` gives an equal concept."""
        import yaml  # not needed to import this module

        return str(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=10_000))

    @classmethod
    def from_yaml(cls, source: str | Path) -> Concept:
        """Reads a concept from YAML text (a `str`) or a YAML file (a `Path`).

        Raises:
            EffaceError: an unreadable file, text that is not YAML or not a mapping, or an invalid concept.
        """
        is_file = isinstance(source, Path)
        text = read_text(source) if isinstance(source, Path) else source
        return cls.from_dict(parse_yaml(text, str(source) if is_file else "the concept's YAML"))

    def save(self, path: str | Path) -> None:
        """Writes the YAML file that ``from_yaml(Path(...))`` reads."""
        atomic_write_text(path, self.to_yaml())


def fill_templates(templates: Iterable[str], words: Iterable[str]) -> tuple[str, ...]:
    """Fills every template with every word and drops duplicates; ``a {}`` becomes ``an`` before a vowel."""
    all_templates = tuple(templates)
    return tuple(dict.fromkeys(_fill_template(template, word) for word in words for template in all_templates))


def _fill_template(template: str, word: str) -> str:
    if word[:1].lower() in ("a", "e", "i", "o", "u"):
        template = re.sub(r"\b([Aa]) \{\}", r"\1n {}", template)
    return template.replace(PLACEHOLDER, word)


def find_mention(text: str, words: Iterable[str]) -> str | None:
    """Returns the first word or phrase that the text contains as whole words, ignoring case and spacing, or None."""
    return next((word for word in words if text_after_mention(text, word) is not None), None)


def text_after_mention(text: str, word: str) -> str | None:
    """Returns the text behind its last mention of a word (as in `find_mention`), in lower case, or None."""
    folded, phrase = fold_case(text), fold_case(word)
    if phrase not in folded:
        return None
    mentions = list(re.finditer(rf"(?<!\w){re.escape(phrase)}(?!\w)", folded))
    return folded[mentions[-1].end() :] if mentions else None


def distinct_retain_prompts(concepts: Iterable[Concept]) -> tuple[str, ...]:
    """Returns the retain prompts of all concepts, each once, in their order."""
    return tuple(dict.fromkeys(prompt for concept in concepts for prompt in concept.retain_prompts))


def validate_concepts(concepts: Sequence[Concept]) -> None:
    """Checks the concepts of one run.

    Raises:
        EffaceError: no concepts, a name given twice, or a retain prompt that contains another concept.
    """
    if not concepts:
        raise EffaceError("no concept given: name at least one, for example 'weapon'")
    seen: set[str] = set()
    prompts = distinct_retain_prompts(concepts)
    for concept in concepts:
        if fold_case(concept.name) in seen:
            raise EffaceError(f"concept {concept.name!r} is given twice: leave one out")
        seen.add(fold_case(concept.name))
        _check_retain_prompts(concept, prompts)


def _check_retain_prompts(concept: Concept, prompts: Iterable[str]) -> None:
    for prompt in prompts:
        if word := find_mention(prompt, concept.words):
            raise EffaceError(
                f"retain prompt {prompt!r} contains {word!r}, which is to be erased: take it out of retain_prompts"
            )
