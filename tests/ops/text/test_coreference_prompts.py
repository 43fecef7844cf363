"""Prompts with a word in place of the concept."""

from __future__ import annotations

import pytest

from efface.ops.text.coreference_prompts import replace_phrase


@pytest.mark.parametrize(
    ("prompt", "word", "replaced"),
    [
        ("a photo of a Weapon", "axe", "a photo of an axe"),
        ("an image of a weapon and weapons", "rifle", "an image of a rifle and weapons"),
        ("weapon", "axe", "axe"),
        ("a thing to shoot with", "axe", "axe"),
    ],
)
def test_the_article_follows_the_word(prompt: str, word: str, replaced: str) -> None:
    assert replace_phrase(prompt, "weapon", word) == replaced
