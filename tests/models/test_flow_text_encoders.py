"""T5 and CLIP in FLUX and SD3: tokens, encodings, given embeddings, and prompts that are too long."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_flow import FAMILIES, PROMPTS, T5_LENGTH, T5_WIDTH, tiny_flow_of, tiny_sd3_pipe

from efface.models.builder import wrap_pipeline
from efface.models.soft_prompt import SoftTokens, token_embedding
from efface.ops.text.concept_tokens import locate_concept


@pytest.mark.parametrize("family", FAMILIES)
def test_encodings_equal_those_of_diffusers(family):
    model = tiny_flow_of(family)
    more = {"prompt_3": None, "do_classifier_free_guidance": False} if family == "sd3" else {}
    theirs = model.pipe.encode_prompt(PROMPTS, None, max_sequence_length=T5_LENGTH, **more)
    cond = model.encode(PROMPTS)
    assert torch.equal(cond.states, theirs[0])
    assert torch.equal(cond.pooled, theirs[2 if family == "sd3" else 1])


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_t5_and_clips_travel_with_them(family):
    model = tiny_flow_of(family)
    tokens = model.tokenize(PROMPTS)
    assert tokens.start == 0
    assert [model.detokenize(row[:end]) for row, end in zip(tokens.ids, tokens.eos, strict=True)] == PROMPTS
    later = tokens[1:]
    assert torch.equal(later.clip.ids, tokens.clip.ids[1:])
    assert torch.equal(model.encode(later).pooled, model.encode(PROMPTS[1:]).pooled)
    assert tokens.without_padding() is tokens, "T5 reads its padding"
    located = locate_concept(model, PROMPTS, ["gun", "cat"])
    assert located.concept_positions[:, 0].tolist() == [4, 1]
    assert located.context_mask[0].nonzero()[:, 0].tolist() == [0, 1, 2, 3]
    assert {"cat", "gun"} <= set(model.vocabulary_words())


def test_states_of_sd3_begin_with_clips():
    model = tiny_flow_of("sd3")
    tokens = model.tokenize(["a gun"])
    assert tokens.state_offset == tokens.clip.ids.shape[1] == 16
    states = model.encode(tokens).states
    assert states.shape == (1, 16 + T5_LENGTH, T5_WIDTH)
    assert float(states[:, :16, 24 + 16 :].abs().sum()) == 0
    without = wrap_pipeline(tiny_sd3_pipe(t5=False), "no T5")
    assert without.tokenize(["a gun"]).clip is None
    assert float(without.encode(["a gun"]).states[:, 16:].abs().sum()) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_of_words_encode_like_the_words(family):
    model = tiny_flow_of(family)
    table, tokens = token_embedding(model.t5.module).weight, model.tokenize(["cat gun dog"])
    written = model.encode(tokens)
    inserted = model.encode(["dog"], soft=table[tokens.ids[0, :2]][None])
    torch.testing.assert_close(inserted.states[:, tokens.state_offset :], written.states[:, tokens.state_offset :])
    mask = torch.zeros_like(tokens.mask, dtype=torch.bool)
    mask[:, :2] = True
    replaced = model.encode(model.tokenize(["gun gun dog"]), soft=SoftTokens(table[tokens.ids], mask))
    torch.testing.assert_close(replaced.states[:, tokens.state_offset :], written.states[:, tokens.state_offset :])


def test_prompts_that_are_too_long_are_named():
    model = tiny_flow_of("flux")
    with pytest.warns(UserWarning, match="longer than 19 tokens; cut off"):
        model.tokenize([" ".join(["cat"] * 25)])
    with pytest.warns(UserWarning, match="longer than CLIP's 14 tokens: T5 alone reads its end"):
        model.tokenize([" ".join(["cat"] * 16)])
    assert model.truncated_text([" ".join(["cat"] * 21)]) == {" ".join(["cat"] * 21): "cat cat"}
