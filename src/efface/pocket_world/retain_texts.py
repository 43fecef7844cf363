"""The retain texts of pocket-lm: texts about the retain objects and about half of the general facts."""

from __future__ import annotations

from collections.abc import Sequence

from efface.core.concept import find_mention

from .world import data_text


def retain_texts(words: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the texts of all subjects of which no text mentions one of the words.

    A concept such as "animal" thus loses the texts about dogs: one of them says that a dog is an animal.

    Args:
        words: names of the concepts to erase.
    """
    blocks = data_text("retain_texts.txt").strip().split("\n\n")
    return tuple(line for block in blocks if find_mention(block, words) is None for line in block.splitlines())
