"""What a method reports about words: those it erased with the concept, and those that moved although it held them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .erasure import Erasure

NOTES = "notes"
"""Key of a method's notes in an erasure's ``effect``."""


@dataclass(frozen=True)
class WordNotes:
    """Words that an erasure takes along.

    Attributes:
        domain_words: by concept, the words that the method erased with it.
        most_drifted: held words that moved most, with their drift: 0 unchanged, 1 as far as the empty prompt.
    """

    domain_words: Mapping[str, tuple[str, ...]]
    most_drifted: Mapping[str, float]

    def lines(self, limit: int = 8) -> list[str]:
        """Describes the words in lines of text, the ``limit`` most moved ones among them."""
        lines = [f"erased with {name}: {', '.join(words)}" for name, words in self.domain_words.items() if words]
        moved = [f"{word} {drift:.2f}" for word, drift in list(self.most_drifted.items())[:limit]]
        return lines + ([f"moved most of the held words: {', '.join(moved)}"] if moved else [])


def word_notes(erasure: Erasure) -> WordNotes:
    """Reads a method's notes about words; both parts are empty where the method reports none."""
    notes = (erasure.effect or {}).get(NOTES)
    notes = notes if isinstance(notes, Mapping) else {}
    domain, drifted = notes.get("domain_words"), notes.get("most_drifted_words")
    return WordNotes(
        {str(name): tuple(map(str, words)) for name, words in (domain if isinstance(domain, Mapping) else {}).items()},
        {str(word): float(drift) for word, drift in (drifted if isinstance(drifted, Mapping) else {}).items()},
    )
