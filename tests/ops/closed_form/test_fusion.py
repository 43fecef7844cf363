"""LoRAs fused in closed form, tokens that sentences share, and the smaller of two exact edits, in float64."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import erasure_of, tiny_model
from torch import Tensor

from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import (
    EmbeddingCache,
    Fusion,
    LowRank,
    Preserve,
    align_tokens,
    co_occurring,
    smallest_exact_edits,
)
from efface.ops.editing.apply import applied


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    """Layer norms with values of their own: with zero biases every Gram would be singular."""
    made = tiny_model(dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.text_encoder.named_parameters():
        if "final_layer_norm" in name:
            parameter.data.copy_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_fusion_is_the_published_formula_of_each_layer(model: StableDiffusionModel, scale: float) -> None:
    """W* = (lambda W_r + sum_j W_j K_j K_j^T + s W C)(lambda I + sum_j K_j K_j^T + s C)^-1 with W_j = W_r + B_j A_j."""
    d, ridge = 32, 0.7
    refined = LowRank(0.3 * drawn(d, 5, seed=1), 0.3 * drawn(5, d, seed=2))
    states = [drawn(d, 40, seed=3), drawn(d, 9, seed=4)]
    kept = drawn(d, 50, seed=5)
    gram = kept @ kept.T
    weights = model.parameter_group("cross_kv").parameters
    adapters = [
        {n: (drawn(len(w), 2, seed=6 + j), drawn(2, d, seed=8 + j)) for n, w in weights.items()} for j in range(2)
    ]
    preserve = Preserve(gram=scale * gram) if scale else Preserve()
    deltas, condition = Fusion(refined, states, preserve, ridge).solve(weights, adapters)
    assert condition > 1
    eye = torch.eye(d, dtype=torch.float64)
    for name, weight in weights.items():
        start = weight @ (eye + refined.dense())
        left, right = ridge * start + scale * weight @ gram, ridge * eye + scale * gram
        for (up, down), k in zip([a[name] for a in adapters], states, strict=True):
            left, right = left + (start + up @ down) @ k @ k.T, right + k @ k.T
        torch.testing.assert_close(weight + deltas[name], left @ torch.inverse(right), rtol=1e-10, atol=1e-10)


def test_the_smaller_exact_form_is_saved(model: StableDiffusionModel) -> None:
    sites = model.parameter_group("cross_kv")
    names = list(sites.parameters)
    deltas = {
        n: drawn(len(w), 1 if n == names[0] else 32) @ drawn(1 if n == names[0] else 32, 32)
        for n, w in sites.parameters.items()
    }
    edits, tensors = smallest_exact_edits(deltas, sites, torch.float64)
    assert [(e.op, len(e.targets)) for e in edits] == [("low_rank", 1), ("replace", len(names) - 1)]
    before = {n: w.detach().clone() for n, w in sites.parameters.items()}
    with applied(model, erasure_of(model, edits, tensors)):
        for name, weight in sites.parameters.items():
            torch.testing.assert_close(weight.detach(), before[name] + deltas[name], rtol=1e-10, atol=1e-10)


def test_tokens_that_two_sentences_share() -> None:
    """BOS 0, end of text and padding 9; 5 is the concept, 6 7 the anchor."""
    here, there = [0, 1, 2, 5, 3, 9, 9, 9], [0, 1, 2, 6, 7, 3, 9, 9]
    assert align_tokens(here, 5, there, 6) == [(0, 0), (1, 1), (2, 2), (4, 5), (5, 6), (6, 7)]
    assert align_tokens([0, 5, 9, 9], 2, [0, 9, 9, 9], 1) == [(0, 0), (2, 1), (3, 2)], (
        "an empty anchor: end of text and padding are left"
    )
    same = align_tokens([0, 1, 9], 2, [0, 1, 9], 2)
    assert same == [(0, 0), (1, 1), (2, 2)], "no place twice where both are equal"
    assert align_tokens([0, 5, 5, 9], 3, [0, 5, 9, 9], 2) == [(0, 0), (1, 1), (3, 2)]


def test_refinement_leaves_out_the_concepts_own_tokens(model: StableDiffusionModel) -> None:
    bank = EmbeddingCache.of(model)
    pairs = co_occurring(model, bank, [("a gun by dog", "a cat by dog", "gun")])
    here, there = bank.states("a gun by dog"), bank.states("a cat by dog")
    kept = [i for i in range(16) if i != 2]
    assert torch.equal(pairs.source, here[kept].T)
    assert torch.equal(pairs.anchor, there[kept].T)
    shared = co_occurring(model, bank, [("a cat gun", "a cat dog", "cat gun")])
    assert torch.equal(shared.source, bank.states("a cat gun")[[0, 1, *range(4, 16)]].T), (
        "cat is the concept's, although both have it"
    )
    assert set(shared.texts) == {"cat gun"}
