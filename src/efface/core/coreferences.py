"""Coreferents to erase with a concept, and neighbours to retain, with how certain each is: one YAML file for a run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .concept import Concept, distinct_retain_prompts, find_mention
from .errors import EffaceError, check_known_keys
from .policy import ContentPolicyError, check_prompts
from .text_fields import clean_line
from .text_files import parse_yaml, read_text

COMMENT = """\
# Read before you erase: coreferents are erased with the concept, retained words are held.
# The number says how certain a word is: above 0, at most 1, the weight of its loss.
"""
LEVELS = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Certainties of CRCE (arXiv 2503.14232): very high, high, normal, low, very low."""


@dataclass(frozen=True)
class Coreferences:
    """The words of one concept; each word has a certainty, above 0 and at most 1.

    Attributes:
        coreferents: other words for the concept, or words for its members, which are erased with it.
        retained: words for neighbours, which must not change.

    Raises:
        EffaceError: no words, or an invalid word or certainty.
        ContentPolicyError: a word that the content policy refuses.
    """

    coreferents: Mapping[str, float]
    retained: Mapping[str, float]

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _clean_words(getattr(self, field.name), field.name))

    @classmethod
    def from_dict(cls, data: object) -> Coreferences:
        """Makes the words of one concept from a mapping of the two lists, each a mapping from word to certainty."""
        names = [field.name for field in fields(cls)]
        if not isinstance(data, Mapping):
            raise EffaceError(f"a concept needs a mapping with {' and '.join(names)}, not {type(data).__name__}")
        check_known_keys("field", data, names)
        if missing := [name for name in names if not data.get(name)]:
            raise EffaceError(f"{missing[0]} are missing: add at least one word, such as 'wrench: 1.0'")
        return cls(**data)


def check_coreferences(by_concept: Mapping[str, Coreferences], concepts: Sequence[Concept]) -> None:
    """Checks that nothing is both erased and retained in one run.

    Args:
        by_concept: the words of each concept, by its name.
        concepts: the concepts.

    Raises:
        EffaceError: a retained word contains a coreferent or a concept's word, or a retain prompt has a coreferent.
    """
    erased = [word for concept in concepts for word in concept.words]
    coreferents = [word for words in by_concept.values() for word in words.coreferents]
    prompts = distinct_retain_prompts(concepts)
    for name, words in by_concept.items():
        for word in words.retained:
            if named := find_mention(word, [*erased, *coreferents]):
                raise EffaceError(
                    f"the retained word {word!r} of {name!r} contains {named!r}, which is erased: take it out"
                )
        for prompt in prompts:
            if coreferent := find_mention(prompt, words.coreferents):
                raise EffaceError(
                    f"the coreferent {coreferent!r} of {name!r} is in the retain prompt {prompt!r}: take one out"
                )


def _clean_words(words: object, field: str) -> dict[str, float]:
    """Returns words with their certainty as a dictionary."""
    if not isinstance(words, Mapping) or not words:
        raise EffaceError(f"{field} must map words to certainties, such as 'wrench: 1.0', not {words!r}")
    cleaned = {clean_line(word, field): certainty for word, certainty in words.items()}
    for word, certainty in cleaned.items():
        is_number = isinstance(certainty, int | float) and not isinstance(certainty, bool)
        if not is_number or not 0 < certainty <= 1:
            raise EffaceError(f"the certainty of {word!r} is {certainty!r}: give a number above 0, at most 1")
    check_prompts(cleaned, f"one of the {field}")
    return {word: float(certainty) for word, certainty in cleaned.items()}


def rank_words(words: Sequence[str]) -> dict[str, float]:
    """Gives each word a level of `LEVELS` by its rank: the first fifth is the most certain."""
    return {word: LEVELS[len(LEVELS) * rank // len(words)] for rank, word in enumerate(words)}


def without_contradictions(
    by_concept: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]], concepts: Sequence[Concept]
) -> dict[str, Coreferences]:
    """Makes proposed coreferents and retained words, without those that `check_coreferences` refuses, with a warning.

    Raises:
        EffaceError: a concept without words is left, or an invalid word or certainty.
    """
    prompts = " | ".join(prompt for concept in concepts for prompt in concept.retain_prompts)
    erased = [word for concept in concepts for word in concept.words]
    named = {
        name: {word: level for word, level in coreferents.items() if find_mention(prompts, [word]) is None}
        for name, (coreferents, _) in by_concept.items()
    }
    erased += [word for words in named.values() for word in words]
    held = {
        name: {word: level for word, level in retained.items() if find_mention(word, erased) is None}
        for name, (_, retained) in by_concept.items()
    }
    proposed = {word for lists in by_concept.values() for words in lists for word in words}
    kept = {word for lists in (named, held) for words in lists.values() for word in words}
    if proposed - kept:
        warnings.warn(f"left out, because it contradicts: {', '.join(sorted(proposed - kept))}", stacklevel=2)
    return {name: Coreferences(named[name], held[name]) for name in by_concept}


def coreferences_yaml(by_concept: Mapping[str, Coreferences]) -> str:
    """Returns the text of the file that `read_coreferences` reads."""
    import yaml  # not needed to import this module

    data = {name: {f.name: dict(getattr(words, f.name)) for f in fields(words)} for name, words in by_concept.items()}
    return COMMENT + str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=10_000))


def read_coreferences(path: str | Path, concepts: Sequence[Concept]) -> dict[str, Coreferences]:
    """Reads the words of each concept from a YAML file, by the concept's name.

    Raises:
        EffaceError: the file cannot be read, lacks a concept, or contradicts the concepts.
        ContentPolicyError: a word that the content policy refuses.
    """
    data: Any = parse_yaml(read_text(Path(path)), str(path))
    if not isinstance(data, Mapping):
        raise EffaceError(f"{path} must map each concept to its coreferents and retained words")
    found = {}
    for concept in concepts:
        if concept.name not in data:
            raise EffaceError(f"{path} has no concept {concept.name!r}, only {', '.join(map(str, data))}: add it")
        try:
            found[concept.name] = Coreferences.from_dict(data[concept.name])
        except ContentPolicyError:
            raise
        except EffaceError as error:
            raise EffaceError(f"{path}, {concept.name}: {error}") from error
    try:
        check_coreferences(found, concepts)
    except EffaceError as error:
        raise EffaceError(f"{path}: {error}") from error
    return found
