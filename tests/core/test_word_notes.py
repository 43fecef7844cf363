"""A method's notes about words."""

from __future__ import annotations

from typing import Any

import pytest

from efface.core.concept import Concept
from efface.core.erasure import Edit, Erasure
from efface.core.spec import RunSpec
from efface.core.word_notes import WordNotes, word_notes

NOTES = {"domain_words": {"weapon": ["dagger", "bow"], "lion": []}, "most_drifted_words": {"fork": 0.061, "tool": 0.04}}


def notes_of(effect: Any) -> WordNotes:
    return word_notes(
        Erasure(
            RunSpec("pocket", {}, "elide", {}, (Concept("weapon"),)), (Edit("sampler", "guidance"),), {}, effect=effect
        )
    )


def test_words_are_read_and_described() -> None:
    notes = notes_of({"concept": 1.0, "notes": NOTES})
    assert notes.domain_words == {"weapon": ("dagger", "bow"), "lion": ()}
    assert notes.lines() == ["erased with weapon: dagger, bow", "moved most of the held words: fork 0.06, tool 0.04"]
    assert notes.lines(limit=1)[-1].endswith("fork 0.06")


@pytest.mark.parametrize("effect", [None, {}, {"notes": "damaged"}, {"notes": {"domain_words": 3}}])
def test_a_method_without_notes_reports_nothing(effect: Any) -> None:
    notes = notes_of(effect)
    assert notes == WordNotes({}, {})
    assert notes.lines() == []
