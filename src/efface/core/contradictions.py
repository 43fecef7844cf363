"""Finds concepts of one run that contradict each other: an anchor that is erased too, a name inside another name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from typing import NoReturn

from .concept import Concept
from .errors import EffaceError
from .text_fields import fold_case

_Words = tuple[str, ...]


def check_contradictions(concepts: Sequence[Concept]) -> None:
    """Checks that no concept's anchor is erased in the same run, and that no prompt would be sent to two anchors.

    Words count in singular and plural, and with their synonyms. Warns where one concept's name is part of another's and
    both have one anchor: prompts of the longer name count for both.

    Raises:
        EffaceError: an anchor names an erased concept, or a concept with another anchor is part of a name.
    """
    by_phrase = {_words(phrase): concept for concept in concepts for phrase in concept.words}
    by_name = {_words(concept.name): concept for concept in concepts}
    for concept in concepts:
        for part in _parts(_words(concept.anchor)):
            if (other := by_phrase.get(part, concept)) is not concept:
                raise EffaceError(
                    f"{concept.anchor!r}, the anchor of {concept.name!r}, names {other.name!r}, which is to be erased "
                    "too: choose an anchor that stays, or erase the two in separate runs"
                )
        for part in _parts(_words(concept.name)):
            if (other := by_name.get(part, concept)) is not concept:
                _report_nested(concept, other)
            elif (other := by_phrase.get(part, concept)) is not concept and not _same_anchor(concept, other):
                _refuse_two_anchors(concept, other)


def _report_nested(longer: Concept, shorter: Concept) -> None:
    """Warns of a name inside another name, or refuses it if the anchors differ."""
    if not _same_anchor(longer, shorter):
        _refuse_two_anchors(longer, shorter)
    warnings.warn(
        f"the concept {shorter.name!r} is part of the concept {longer.name!r}: prompts of the latter count for both; "
        "make one a synonym of the other unless you mean it",
        stacklevel=3,
    )


def _same_anchor(one: Concept, other: Concept) -> bool:
    return fold_case(one.anchor) == fold_case(other.anchor)


def _refuse_two_anchors(longer: Concept, shorter: Concept) -> NoReturn:
    raise EffaceError(
        f"{shorter.name!r} (anchor {shorter.anchor!r}) is part of {longer.name!r} (anchor {longer.anchor!r}): "
        "prompts of the latter would have two anchors; give both the same anchor, or leave one out"
    )


def _words(text: str) -> _Words:
    """Returns the words of a text in lower case and in the singular."""
    return tuple(map(_singular, re.findall(r"\w+", fold_case(text))))


def _singular(word: str) -> str:
    """Returns an English word without the ending of a regular plural."""
    if len(word) < 4 or not word.endswith("s") or word.endswith("ss"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]


def _parts(words: _Words) -> Iterator[_Words]:
    """Yields every run of neighbouring words."""
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            yield words[start:end]
