"""States of prompts without the concept at the positions of the prompts with it."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model
from helpers.tiny_flow import FLOW_PIPES, tiny_flow_of
from torch import Tensor

from efface.models.protocol import Conditioning
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.text.concept_prompts import ConceptPrompts
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.state_alignment import align_states, permute_states
from efface.ops.training.trajectory_config import TrajectoryConfig

TEMPLATES = ("a sketch of a {} in the woods", "a photo of a {}")
CONTEXTS = ("a sketch of the woods", "a photo")


@pytest.fixture(scope="module")
def prompts(pocket: StableDiffusionModel) -> ConceptPrompts:
    return ConceptPrompts.from_templates(pocket, ["knife"], TEMPLATES, TrajectoryConfig(1, 2), seed=0)


def aligned_states(prompts: ConceptPrompts) -> Tensor:
    """States of the prompts without the concept, at the positions of the prompts with it."""
    return align_states(
        prompts.prompt_tokens, prompts.pool.cond.states, prompts.context_tokens, prompts.context_cond.states
    )


def test_denoiser_predicts_nearly_the_same_from_aligned_states(
    pocket: StableDiffusionModel, prompts: ConceptPrompts
) -> None:
    batch = prompts.pool.sample(6, torch.Generator().manual_seed(0))
    aligned = Conditioning(aligned_states(prompts)[batch.prompt_index], batch.cond.pooled)
    with torch.no_grad():
        context_cond = pocket.encode([CONTEXTS[i] for i in batch.prompt_index.tolist()])
        expected = pocket.predict(batch.z, batch.t, context_cond).value
        predicted = pocket.predict(batch.z, batch.t, aligned).value
    assert (predicted - expected).square().mean() < 0.02 * (batch.conditional - expected).square().mean()


def test_no_position_depends_on_later_tokens(pocket: StableDiffusionModel, prompts: ConceptPrompts) -> None:
    with torch.no_grad():
        states = pocket.encode(prompts.prompt_tokens.tokens).states
        other_place = pocket.encode(["a sketch of the beach"]).states
    aligned, first = aligned_states(prompts)[0], int(prompts.prompt_tokens.concept_mask()[0].nonzero()[0])
    torch.testing.assert_close(aligned[:first], states[0, :first])
    torch.testing.assert_close(aligned[first], states[0, first - 1])
    torch.testing.assert_close(aligned[first + 2], other_place[0, 4], msg="'the', before the woods")
    assert not torch.allclose(aligned[first + 3], other_place[0, 5], atol=1e-2)


def test_each_position_takes_the_state_of_its_token() -> None:
    model = tiny_model()
    prompt_tokens, context_tokens = locate_concept(model, ["a gun by x"], ["gun"]), model.tokenize(["a x"])
    length = prompt_tokens.context_mask.shape[1]
    states = torch.arange(length, dtype=torch.float32).view(1, length, 1)
    aligned = align_states(prompt_tokens, states, context_tokens, 100 + states)[0, :, 0].tolist()
    # BOS and "a" precede the concept; "gun", "b" and "y" repeat "a"; "x", EOS and the padding move by three positions
    assert prompt_tokens.tokens.eos.tolist() == [6]
    assert aligned[:9] == [0, 1, 1, 1, 1, 102, 103, 104, 105]


def test_a_permutation_keeps_tokens_and_padding_and_gives_the_concept_the_remaining_padding() -> None:
    model = tiny_flow_of("flux")
    tokens, context_tokens = model.tokenize(["a photo of a gun and cat"]), model.tokenize(["a photo and cat"])
    length = tokens.ids.shape[1]
    states = torch.arange(length, dtype=torch.float32).view(1, length, 1)
    permuted = permute_states(tokens, context_tokens, states)[0, :, 0].int().tolist()
    assert sorted(permuted) == list(range(length)), "each state once"
    # "of a gun" is missing; the shorter prompt has padding at 5, 6 and 7
    assert permuted[:8] == [0, 1, 5, 6, 7, 2, 3, 4]
    assert permuted[8:] == list(range(8, length))


@pytest.mark.parametrize("family", FLOW_PIPES)
def test_transformers_read_permuted_states_as_the_prompt_without_the_concept(family: str) -> None:
    model = tiny_flow_of(family)
    tokens, context_tokens = model.tokenize(["the dog and a gun x"]), model.tokenize(["the dog x"])
    z, offset = model.initial_noise([0]), tokens.state_offset
    with torch.no_grad():
        cond, context = model.encode(tokens), model.encode(context_tokens)
        permuted = permute_states(tokens, context_tokens, context.states[:, offset:])
        states = torch.cat([context.states[:, :offset], permuted], dim=1)
        expected, predicted, full = (
            model.predict(z, 600, part).value for part in (context, Conditioning(states, context.pooled), cond)
        )
    assert not torch.allclose(states, context.states, atol=1e-2)
    torch.testing.assert_close(predicted, expected, atol=1e-5, rtol=1e-5)
    assert (full - expected).abs().max() > 1e-3
