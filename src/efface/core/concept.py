"""The concept to erase: its name, the words for it, what to put in its place and what to keep."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import EffaceError, check_known_keys
from .io import atomic_write_text, user_file_errors
from .policy import check_prompts
from .serialization import to_jsonable_dict

PLACEHOLDER = "{}"
TEMPLATES: dict[str, tuple[str, ...]] = {
    "style": ("a picture in {} style", "an image in the style of {}", "{} style"),
    "object": ("a photo of a {}", "a picture of a {}", "a {}", "{}"),
    "domain": ("a photo of a {}", "a picture of a {}", "a {}", "{}"),
    "": ("a photo of {}", "a picture of {}", "an image of {}", "{}"),
}


@dataclass(frozen=True)
class Concept:
    """A target concept.

    Attributes:
        name: the words that name it, such as ``weapon``.
        kind: ``object``, ``style``, ``identity``, ``domain`` or another word; it chooses the default templates.
        prompts: whole prompts that show the concept; where there are none, methods use the filled templates.
        synonyms: other words for it that the method may use.
        anchor: what to draw in its place; ``""`` is the unconditional prompt.
        retain_prompts: prompts whose images must stay as they are; none may contain the name or a synonym as whole words.
        templates: sentences with a ``{}`` for the name; left out, those of the kind (`TEMPLATES`).

    Raises:
        EffaceError: a field that is empty, of another type, or contradicts another one.
        Refused: a text, or a template with a word in it, that the content policy does not allow.
    """

    name: str
    kind: str = "object"
    prompts: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    anchor: str = ""
    retain_prompts: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("name", "kind", "anchor"):
            object.__setattr__(self, field, _check_single_line(getattr(self, field), field))
        for field in ("prompts", "synonyms", "retain_prompts", "templates"):
            object.__setattr__(self, field, _texts(getattr(self, field), field))
        for field in ("prompts", "synonyms", "retain_prompts", "templates"):
            check_prompts(getattr(self, field), f"one of the concept's {field}")
        check_prompts((self.name, self.anchor), "the concept's name or anchor")
        if not self.name:
            raise EffaceError("the concept's name is empty: name what to erase, for example 'weapon'")
        if not self.templates:
            object.__setattr__(self, "templates", TEMPLATES.get(self.kind, TEMPLATES[""]))
        for template in self.templates:
            if PLACEHOLDER not in template:
                raise EffaceError(
                    f"template {template!r} of {self.name!r} has no {PLACEHOLDER} for the name: write 'a photo of {PLACEHOLDER}'"
                )
        check_prompts(
            (place.replace(PLACEHOLDER, word) for place in self.templates for word in self.words),
            "a template with one of its words",
        )
        if self.anchor and _fold_case(self.anchor) in {_fold_case(word) for word in self.words}:
            raise EffaceError(
                f"the anchor of {self.name!r} is the concept itself: say what to draw in its place, or '' for nothing"
            )
        _check_retain(self, self.retain_prompts)

    @classmethod
    def coerce(cls, concept: str | Mapping[str, Any] | Concept) -> Concept:
        """A concept from its name alone, from a mapping of its fields, or as it is."""
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
        """Every template filled with every word, word by word; by default its own templates with its name alone."""
        return fill_templates(
            self.templates if templates is None else templates, (self.name,) if words is None else words
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain lists and texts; `from_dict` gives an equal concept."""
        return to_jsonable_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Concept:
        """A concept from a mapping; a key whose value is None counts as left out.

        Raises:
            UnknownName: a key that is no field; the nearest is suggested.
            EffaceError: a field that is not valid.
        """
        if not isinstance(data, Mapping):
            raise EffaceError(
                f"a concept must be a mapping of its fields, such as 'name: weapon', not {type(data).__name__}"
            )
        check_known_keys("concept field", data, (field.name for field in fields(cls)))
        given = {key: value for key, value in data.items() if value is not None}
        return cls(**{"name": "", **given})

    def to_yaml(self) -> str:
        """YAML text of all fields; `from_yaml` gives an equal concept."""
        import yaml

        return str(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=10_000))

    @classmethod
    def from_yaml(cls, source: str | Path) -> Concept:
        """A concept from YAML text (a `str`) or a YAML file (a `Path`).

        Raises:
            EffaceError: not YAML, not a mapping, unreadable, or a concept that is not valid.
        """
        import yaml

        where = "the concept's YAML"
        if isinstance(source, Path):
            where = str(source)
            with user_file_errors(source, "read"):
                raw = source.read_bytes()
        else:
            raw = source.encode()
        try:
            data = yaml.safe_load(raw.decode())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise EffaceError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
        return cls.from_dict(data)

    def save(self, path: str | Path) -> None:
        """Writes the YAML file that ``from_yaml(Path(...))`` reads."""
        atomic_write_text(path, self.to_yaml())


def fill_templates(templates: Iterable[str], words: Iterable[str]) -> tuple[str, ...]:
    """Every template with every word in its ``{}``, word by word, each prompt once; ``a {}`` becomes ``an`` before a vowel."""
    sentences = tuple(templates)
    return tuple(dict.fromkeys(_fill_template(sentence, word) for word in words for sentence in sentences))


def _fill_template(sentence: str, word: str) -> str:
    if word[:1].lower() in ("a", "e", "i", "o", "u"):
        sentence = re.sub(r"\b([Aa]) \{\}", r"\1n {}", sentence)
    return sentence.replace(PLACEHOLDER, word)


def find_mention(text: str, words: Iterable[str]) -> str | None:
    """The first of the words that the text contains as whole words, whatever the case and spacing, or None."""
    folded = _fold_case(text)
    return next(
        (
            word
            for word in words
            if (part := _fold_case(word)) in folded and re.search(rf"(?<!\w){re.escape(part)}(?!\w)", folded)
        ),
        None,
    )


def validate_concepts(concepts: Sequence[Concept]) -> None:
    """Checks concepts that are erased in one run.

    Raises:
        EffaceError: none at all, a name given twice, or a retain prompt of one that contains another.
    """
    if not concepts:
        raise EffaceError("no concept given: name at least one, for example 'weapon'")
    seen: set[str] = set()
    prompts = list(dict.fromkeys(prompt for concept in concepts for prompt in concept.retain_prompts))
    for concept in concepts:
        if _fold_case(concept.name) in seen:
            raise EffaceError(f"concept {concept.name!r} is given twice: leave one out")
        seen.add(_fold_case(concept.name))
        _check_retain(concept, prompts)


def _check_retain(concept: Concept, prompts: Iterable[str]) -> None:
    for prompt in prompts:
        if word := find_mention(prompt, concept.words):
            raise EffaceError(
                f"retain prompt {prompt!r} contains {word!r}, which is to be erased: take it out of the retain set"
            )


@lru_cache(maxsize=65536)
def _fold_case(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _check_single_line(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise EffaceError(f"the concept's {field} must be text, not {value!r}")
    return " ".join(value.split())


def _texts(value: object, field: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise EffaceError(f"the concept's {field} must be a list of texts, not {value!r}")
    texts = tuple(_check_single_line(item, f"{field}[{i}]") for i, item in enumerate(value))
    if "" in texts and field != "retain_prompts":
        raise EffaceError(f"the concept's {field} contain an empty text: leave it out")
    return texts
