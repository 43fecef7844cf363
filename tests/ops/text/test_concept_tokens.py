"""Which tokens of a prompt are a concept's."""

from __future__ import annotations

import torch

from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.text.concept_tokens import locate_concept

PROMPTS = ["a sketch of santa claus in the woods", "santa claus on the snow", "a photo of a santa claus"]


def test_one_token_in_the_concept_s_place_moves_up_what_follows(pocket: StableDiffusionModel) -> None:
    frames = locate_concept(pocket, PROMPTS, ["santa claus"] * 3)
    last = frames.concept_mask().int() * torch.arange(frames.context_mask.shape[1])
    joined = frames.collapse_concept(
        torch.tensor([True, False, True]), last.argmax(1), int(pocket.tokenize([""]).ids[0, -1])
    )
    short = [PROMPTS[0].replace("santa ", ""), PROMPTS[1], PROMPTS[2].replace("santa ", "")]
    wanted = locate_concept(pocket, short, ["claus", "santa claus", "claus"])
    for name in ("ids", "mask", "eos"):
        assert torch.equal(getattr(joined.tokens, name), getattr(wanted.tokens, name)), name
    assert torch.equal(joined.context_mask, wanted.context_mask)
    assert torch.equal(joined.concept_mask(), wanted.concept_mask())
    assert joined.concept_mask().sum(1).tolist() == [1, 2, 1]
