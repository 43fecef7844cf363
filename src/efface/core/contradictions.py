"""Finds concepts of one run that contradict each other: an anchor that is erased too, a name inside another name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence

from .concept import Concept
from .errors import EffaceError
from .text_fields import fold_case

_Words = tuple[str, ...]


def check_contradictions(concepts: Sequence[Concept]) -> None:
    """Checks that no concept's anchor is erased in the same run, and that no prompt would be sent to two anchors.

    Warns where one concept's name is part of another's and both have one anchor: prompts of the longer name count for
    both.

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


def _report_nested(longer: Concept, shorter: Concept) -> None:
    """Warns of a name inside another name, or refuses it if the anchors differ."""
    if fold_case(longer.anchor) != fold_case(shorter.anchor):
        raise EffaceError(
            f"{shorter.name!r} (anchor {shorter.anchor!r}) is part of {longer.name!r} (anchor {longer.anchor!r}): "
            "prompts of the latter would have two anchors; give both the same anchor, or leave one out"
        )
    warnings.warn(
        f"the concept {shorter.name!r} is part of the concept {longer.name!r}: prompts of the latter count for both; "
        "make one a synonym of the other unless you mean it",
        stacklevel=3,
    )


def _words(text: str) -> _Words:
    return tuple(re.findall(r"\w+", fold_case(text)))


def _parts(words: _Words) -> Iterator[_Words]:
    """Yields every run of neighbouring words."""
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            yield words[start:end]
