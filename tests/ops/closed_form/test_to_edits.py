"""Closed-form edits of a tiny model in float64: LoRA, filter and published weights are equal."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import erasure_of, state_bytes
from torch import Tensor

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import (
    EmbeddingCache,
    PreservedStates,
    Problem,
    PromptFilter,
    build_pairs,
    concept_prompts,
    smallest_exact_edits,
    to_edit,
)
from efface.ops.editing.apply import applied

CONCEPT = Concept("gun", retain_prompts=("a cat", "a dog"))


def build_problem(model: StableDiffusionModel, ridge: float = 0.5) -> Problem:
    cache = EmbeddingCache.for_model(model)
    pairs = build_pairs(cache, concept_prompts(CONCEPT, 0), "tail")
    return Problem(
        pairs, PreservedStates.from_texts(cache, CONCEPT.retain_prompts, all_tokens=True).preserve(0.7), ridge
    )


def predictions(model: StableDiffusionModel) -> Tensor:
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return model.predict(z, torch.tensor([3, 700]), model.encode(["a gun", "a cat"])).value


def test_lora_filter_and_published_weights_are_equal(model: StableDiffusionModel) -> None:
    p = build_problem(model)
    solution, before, original = p.solve(), state_bytes(model), predictions(model)
    lora, tensors = to_edit(model, solution, "cross_kv", dtype=torch.float64)
    erasure = erasure_of(model, [lora], tensors)
    with applied(model, erasure):
        fused = predictions(model)
    assert state_bytes(model) == before
    assert float((fused - original).abs().max()) > 1e-3

    state, state_tensors = to_edit(model, solution, "cross_kv", "filter", torch.float64)
    with applied(model, erasure_of(model, [state], state_tensors)):
        torch.testing.assert_close(predictions(model), fused, rtol=0, atol=1e-12)
    prompt_filter = PromptFilter.from_erasure(model, erasure)
    with prompt_filter.applied():
        torch.testing.assert_close(predictions(model), fused, rtol=0, atol=1e-12)
        prompt_filter.active = False
        assert torch.equal(predictions(model), original)
    assert torch.equal(predictions(model), original)
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cond = prompt_filter(model.encode(["a gun"]))
    with applied(model, erasure):
        expected = model.predict(z, 3, model.encode(["a gun"])).value
    torch.testing.assert_close(model.predict(z, 3, cond).value, expected, rtol=0, atol=1e-12)

    k, a, s = p.pairs.source, p.pairs.anchor, p.preserve.second_moment(p.width)
    for name, weight in model.parameter_group("cross_kv").parameters.items():
        left = p.ridge * weight + (weight @ a) @ k.T + weight @ s
        published = left @ torch.inverse(p.ridge * torch.eye(p.width, dtype=torch.float64) + k @ k.T + s)
        with applied(model, erasure):
            torch.testing.assert_close(
                model.parameter_group("cross_kv").parameters[name].detach(), published, rtol=0, atol=1e-10
            )


def test_an_edit_of_the_values_is_no_filter(model: StableDiffusionModel) -> None:
    solution = build_problem(model).solve()
    with pytest.raises(EffaceError, match="cross_v is only a part of the layers that read the text"):
        to_edit(model, solution, "cross_v", "filter")
    edit, tensors = to_edit(model, solution, "cross_v")
    with pytest.raises(EffaceError, match="do not share one edit"):
        PromptFilter.from_erasure(model, erasure_of(model, [edit], tensors))


def test_the_smaller_exact_form_is_saved(model: StableDiffusionModel) -> None:
    group = model.parameter_group("cross_kv")
    names = list(group.parameters)
    deltas = {
        n: normal(len(w), 1 if n == names[0] else 32) @ normal(1 if n == names[0] else 32, 32)
        for n, w in group.parameters.items()
    }
    edits, tensors = smallest_exact_edits(deltas, group, torch.float64)
    assert [(e.op, len(e.targets)) for e in edits] == [("low_rank", 1), ("replace", len(names) - 1)]
    before = {n: w.detach().clone() for n, w in group.parameters.items()}
    with applied(model, erasure_of(model, edits, tensors)):
        for name, weight in group.parameters.items():
            torch.testing.assert_close(weight.detach(), before[name] + deltas[name], rtol=1e-10, atol=1e-10)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
