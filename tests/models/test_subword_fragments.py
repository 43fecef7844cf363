"""Which tokens stand alone, by the order in which byte-pair encoding made them."""

from __future__ import annotations

from efface.models.stable_diffusion import StableDiffusionModel
from efface.models.subword_fragments import nonword_tokens


def test_what_only_ends_longer_words_is_no_word(pocket: StableDiffusionModel) -> None:
    found = nonword_tokens(pocket.encoders[0].tokenizer)
    assert {"stol", "itar", "phant", "thm"} <= found, "of pistol, guitar, elephant and rhythm"
    assert not {"bow", "key", "gun", "pistol", "dagger", "hammer"} & found, "bow ends longbow, too, and is a word"
    every, alone = pocket.vocabulary_words(), pocket.vocabulary_words(alone=True)
    assert set(every) - set(alone) == found & set(every)
    assert "stol" in every
    assert len(alone) > 0.6 * len(every)
