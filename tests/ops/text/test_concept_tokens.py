"""Tokens of a prompt that belong to the concept, and those that belong to its context."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.text.concept_tokens import check_fits_context, locate_concept, report_unknown_names
from efface.ops.text.similarity import gather_positions

PROMPTS = ["a sketch of santa claus in the woods", "santa claus on the snow", "a photo of a santa claus"]


def test_concept_and_context_are_located() -> None:
    model = tiny_model()
    prompt_tokens = locate_concept(model, ["a gun x", "my dog gun"], ["gun", "gun"])
    gun = int(model.tokenize(["gun"]).ids[0, 1])
    assert prompt_tokens.tokens.ids.gather(1, prompt_tokens.concept_positions[:, :1]).flatten().tolist() == [gun, gun]
    assert prompt_tokens.concept_positions[:, 1].tolist() == prompt_tokens.tokens.eos.tolist()
    assert torch.nonzero(prompt_tokens.context_mask[0])[:, 0].tolist() == [1, 3]
    assert torch.nonzero(prompt_tokens.concept_mask()[0])[:, 0].tolist() == [2]


def test_states_up_to_eos_do_not_depend_on_the_padding() -> None:
    model = tiny_model()
    prompt_tokens = locate_concept(model, ["a gun x", "my dog gun"], ["gun", "gun"])
    truncated, positions = prompt_tokens.truncated(), prompt_tokens.concept_positions
    assert truncated.tokens.ids.shape[1] < prompt_tokens.tokens.ids.shape[1]
    full, short = (model.encode(tokens.tokens).states for tokens in (prompt_tokens, truncated))
    torch.testing.assert_close(
        gather_positions(full, positions), gather_positions(short, positions), atol=1e-5, rtol=1e-5
    )


def test_phrases_of_different_lengths_share_a_batch() -> None:
    prompt_tokens = locate_concept(tiny_model(), ["a gun", "a bird x"], ["gun", "bird"])
    assert prompt_tokens.concept_positions.shape == (2, 5)
    assert prompt_tokens.concept_positions[0, 1:].tolist() == [int(prompt_tokens.tokens.eos[0])] * 4


def test_missing_and_truncated_phrases_are_errors() -> None:
    model = tiny_model()
    with pytest.warns(UserWarning, match="cut off"), pytest.raises(EffaceError, match="cuts off 'gun'"):
        locate_concept(model, ["a b c d e f g h i j k l m n o gun"], ["gun"])
    with pytest.raises(EffaceError, match="does not contain"):
        locate_concept(model, ["a cat"], ["gun"])
    with pytest.raises(EffaceError, match=r"'gun gun .*exceeds the context length"):
        check_fits_context(model, [Concept("gun " * 20 + "x")])
    check_fits_context(model, [Concept("gun")])


def test_collapse_keeps_one_concept_token_and_moves_the_following_ones_up(pocket: StableDiffusionModel) -> None:
    prompt_tokens = locate_concept(pocket, PROMPTS, ["santa claus"] * 3)
    last_position = (prompt_tokens.concept_mask().int() * torch.arange(prompt_tokens.context_mask.shape[1])).argmax(1)
    padding_id = int(pocket.tokenize([""]).ids[0, -1])
    collapsed = prompt_tokens.collapse_concept(torch.tensor([True, False, True]), last_position, padding_id)
    shortened = [PROMPTS[0].replace("santa ", ""), PROMPTS[1], PROMPTS[2].replace("santa ", "")]
    expected = locate_concept(pocket, shortened, ["claus", "santa claus", "claus"])
    for name in ("ids", "mask", "eos"):
        assert torch.equal(getattr(collapsed.tokens, name), getattr(expected.tokens, name)), name
    assert torch.equal(collapsed.context_mask, expected.context_mask)
    assert torch.equal(collapsed.concept_mask(), expected.concept_mask())
    assert collapsed.concept_mask().sum(1).tolist() == [1, 2, 1]


def test_names_that_are_read_letter_by_letter_are_warned_of() -> None:
    model = tiny_model()
    with pytest.warns(UserWarning, match="reads 'qzxv' letter by letter.*efface sample qzxv"):
        report_unknown_names(model, [Concept("gun"), Concept("qzxv")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report_unknown_names(model, [Concept("gun"), Concept("cat dog"), Concept("x")])
