from __future__ import annotations

import pytest
import torch
from helpers.tiny_language import tiny_language_model

from efface.ops.language import concept_texts
from efface.ops.language.concept_texts import texts_without


def test_texts_that_the_model_writes_from_nothing_leave_the_words_out(monkeypatch: pytest.MonkeyPatch) -> None:
    written = ["a cat meow .", "the gun is made of steel .", "it is a cannon .", ""]
    monkeypatch.setattr(concept_texts, "write_texts", lambda *_, **__: written)
    kept = texts_without(tiny_language_model(), ["gun"], 5, torch.Generator())
    assert kept == ["a cat meow .", "it is a cannon ."]


def test_their_number_is_at_most_the_wanted_one() -> None:
    kept = texts_without(tiny_language_model(), ["gun"], 20, torch.Generator().manual_seed(0))
    assert 0 < len(kept) <= 20
    assert not any("gun" in text for text in kept)
