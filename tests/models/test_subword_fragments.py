"""Fragments of words, by the order in which byte-pair encoding merged them."""

from __future__ import annotations

from efface.models.stable_diffusion import StableDiffusionModel
from efface.models.subword_fragments import nonword_tokens


def test_tokens_that_only_end_longer_words_are_fragments(pocket: StableDiffusionModel) -> None:
    fragments = nonword_tokens(pocket.encoders[0].tokenizer)
    assert {"stol", "itar", "phant", "thm"} <= fragments, "of pistol, guitar, elephant and rhythm"
    assert not {"bow", "key", "gun", "pistol", "dagger", "hammer"} & fragments, "bow also ends longbow, and is a word"
    words, whole_words = pocket.vocabulary_words(), pocket.vocabulary_words(whole_only=True)
    assert set(words) - set(whole_words) == fragments & set(words)
    assert "stol" in words
    assert len(whole_words) > 0.6 * len(words)
