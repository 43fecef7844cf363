"""Texts of a concept: one spelling in Unicode, no invisible characters, no lone punctuation."""

from __future__ import annotations

import unicodedata

import pytest

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.policy import check_prompts


def test_two_unicode_spellings_are_one_concept():
    names = [unicodedata.normalize(form, "éclair") for form in ("NFC", "NFD")]
    assert names[0] != names[1]
    assert Concept(names[0], synonyms=(names[1],)) == Concept(names[1], synonyms=(names[0],))
    assert Concept(names[1]).words == (names[0],)


@pytest.mark.parametrize("letter", ["\0", "\x07", "\u200b", "\u200d", "\ufeff", "\u202e", "\ue000"])
def test_invisible_characters_are_refused(letter):
    for fields in ({"name": f"c{letter}at"}, {"name": "cat", "retain_prompts": (f"a {letter}dog",)}):
        with pytest.raises(EffaceError, match=rf"invisible character \(U\+{ord(letter):04X}\): type the text again"):
            Concept(**fields)


@pytest.mark.parametrize("text", [",", " . ", "--", "\"'"])
def test_lone_punctuation_is_refused(text):
    for fields in ({"name": text}, {"name": "cat", "synonyms": ("feline", text)}, {"name": "cat", "anchor": text}):
        with pytest.raises(EffaceError, match="punctuation only: leave it out"):
            Concept(**fields)
    assert Concept("C++", synonyms=("猫", "🐈")).templates[-1] == "{}"


def test_text_that_is_not_utf_8_is_refused():
    text = b"caf\xe9".decode("utf-8", "surrogateescape")
    for call in (lambda: Concept(text), lambda: check_prompts([text])):
        with pytest.raises(EffaceError, match=r"the text 'caf\\udce9' is not UTF-8"):
            call()
