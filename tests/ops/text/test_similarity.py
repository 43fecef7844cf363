"""Similarities of text encoder states."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model
from helpers.tiny_flow import FLOW_PIPES, tiny_flow_of

from efface.core.errors import UnknownNameError
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.similarity import SIMILARITIES, Similarity


def cross_attention_metric(model: StableDiffusionModel) -> torch.Tensor:
    matrices = [w.detach().double() for w in model.parameter_group("cross_kv").parameters.values()]
    return torch.stack([w.T @ w for w in matrices]).sum(0)


@pytest.mark.parametrize("kind", [kind for kind in SIMILARITIES if kind != "kv_distance"])
def test_cosines_are_one_for_equal_and_minus_one_for_opposite_states(kind: str) -> None:
    s = Similarity(tiny_model(), kind)
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 32, generator=generator), torch.randn(2, 3, 32, generator=generator)
    torch.testing.assert_close(s(a, a), torch.ones(2))
    torch.testing.assert_close(s(a, -a), -torch.ones(2))
    assert (s(a, b).abs() < 1).all()


def test_kv_cosine_is_the_cosine_in_the_cross_attention_metric() -> None:
    model = tiny_model()
    metric = cross_attention_metric(model)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 3, 32, generator=generator, dtype=torch.float64) for _ in range(2))

    def product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bnd,de,bne->bn", x, metric, y)

    expected = (product(a, b) / (product(a, a) * product(b, b)).sqrt()).mean(-1)
    found = Similarity(model, "kv_cosine")(a.float(), b.float())
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def test_eos_cosine_reads_the_last_position_only() -> None:
    s = Similarity(tiny_model(), "eos_cosine")
    a = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    changed = a.clone()
    changed[:, :-1] = 0
    torch.testing.assert_close(s(changed, a), torch.ones(2))


def test_kv_distance_is_relative_to_the_empty_prompt() -> None:
    model = tiny_model()
    s, metric = Similarity(model), cross_attention_metric(model)
    with torch.no_grad():
        a, b, empty = (model.encode([text]).states for text in ("a gun x", "my dog gun", ""))
    a, b, empty = (s.compared_states(states) for states in (a, b, empty))
    torch.testing.assert_close(s(b, b), torch.ones(1))
    torch.testing.assert_close(s(empty, b), torch.zeros(1), atol=1e-5, rtol=0)
    distance, scale = (torch.einsum("bnd,de,bne->b", d, metric, d) for d in ((a - b).double(), (empty - b).double()))
    torch.testing.assert_close(s(a, b).double(), 1 - distance / scale, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_compared_positions(kind: str) -> None:
    model = tiny_model()
    s, prompt_tokens = Similarity(model, kind), locate_concept(model, ["a gun x"], ["gun"])
    num_positions = s.compared_states(model.encode(prompt_tokens.tokens).states, prompt_tokens).shape[1]
    assert num_positions == (15 if kind == "kv_distance" else 2), "all but BOS, or the concept and EOS"
    trimmed = s.trim_unused_padding(prompt_tokens).tokens.ids.shape[1]
    assert trimmed == (16 if kind == "kv_distance" else 5), "BOS, three tokens, EOS"


def test_unknown_kind_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match="unknown similarity 'token_cosin': did you mean 'token_cosine'"):
        Similarity(tiny_model(), "token_cosin")


@pytest.mark.parametrize("family", FLOW_PIPES)
def test_flow_models_compare_the_states_that_t5_gives(family: str) -> None:
    model = tiny_flow_of(family)
    located = locate_concept(model, ["a gun"], ["gun"])
    states = model.encode(located.tokens).states
    t5_states = states[:, located.tokens.state_offset :]
    cosine, distance = Similarity(model, "token_cosine"), Similarity(model, "kv_distance")
    assert torch.equal(cosine.compared_states(states, located), t5_states[:, [1, 2]])
    assert distance.compared_states(states).shape[1] == states.shape[1] - (family == "sd3"), "without CLIP's BOS"
    empty = distance.compared_states(model.encode([""]).states)
    torch.testing.assert_close(distance(empty, distance.compared_states(states)), torch.zeros(1))
