"""RealEra's parts against what they are said to be, in float64 on a small model."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model
from torch.nn.functional import cosine_similarity

from efface.core.concept import Concept
from efface.core.spec import RunSpec
from efface.methods.realera import Config, directions, perturb_conditioning, realera, sample_neighbourhood
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import EmbeddingCache, build_pairs, concept_prompts
from efface.ops.editing.apply import applied
from efface.ops.training.lora import LoraAdapter
from efface.ops.training.run import Run

CONCEPT = Concept("gun", anchor="cat", retain_prompts=("a dog", "a cat", "dog by cat"))
SMALL = Config(
    steps=3, trajectories_per_prompt=1, num_inference_steps=4, learning_rate=1e-2, num_neighbours=5, num_beyond=7
)


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    return tiny_model(dtype=torch.float64)


def test_the_closed_form_erases_neighbours_and_holds_what_lies_beyond(model: StableDiffusionModel) -> None:
    bank = EmbeddingCache.of(model)
    pairs = build_pairs(bank, concept_prompts(CONCEPT, 0), "last")
    problem = sample_neighbourhood(pairs, None, SMALL, torch.Generator().manual_seed(0))
    near, beyond = problem.pairs.source[:, 1:], problem.preserve.columns(32)[0]
    assert (near.shape[1], beyond.shape[1]) == (5, 7)
    assert float(problem.pairs.weight.sum()) == pytest.approx(1)
    assert float(problem.preserve.columns(32)[1].sum()) == pytest.approx(SMALL.beyond_weight)
    assert bool((problem.pairs.anchor == pairs.anchor).all())
    e = pairs.source
    assert (
        float(cosine_similarity(near, e.expand(-1, 5), dim=0).min())
        >= max(SMALL.neighbour_min_cosine, 1 - SMALL.neighbour_max_distance**2 / 2) - 1e-9
    )
    assert float(cosine_similarity(beyond, e.expand(-1, 7), dim=0).max()) <= SMALL.beyond_max_cosine + 1e-9
    k, a, w = problem.pairs.source, problem.pairs.anchor, problem.pairs.weight
    r = beyond * (SMALL.beyond_weight / 7)
    for weight in model.parameter_group("cross_kv").parameters.values():
        left = SMALL.ridge * weight + weight @ (a * w) @ k.T + weight @ r @ beyond.T
        right = SMALL.ridge * torch.eye(32, dtype=torch.float64) + (k * w) @ k.T + r @ beyond.T
        torch.testing.assert_close(
            weight @ problem.solve().matrix(), left @ torch.inverse(right), rtol=1e-10, atol=1e-10
        )


def test_directions_of_the_retained(model: StableDiffusionModel) -> None:
    bank = EmbeddingCache.of(model)
    pairs = build_pairs(bank, concept_prompts(CONCEPT, 0), "last")
    assert directions(bank, CONCEPT.retain_prompts, pairs, SMALL) is None
    basis = directions(bank, CONCEPT.retain_prompts, pairs, Config(anisotropic=True, num_nearest=3))
    assert basis is not None
    assert basis.shape[1] <= 3


def test_only_marked_states_are_perturbed(model: StableDiffusionModel) -> None:
    cond = model.encode(["a gun", "a cat"])
    where = torch.zeros(2, 16, dtype=torch.bool)
    where[0, 2:], where[1, 5] = True, True
    other = perturb_conditioning(cond, where, (0.6, 0.6), torch.Generator().manual_seed(0))
    assert torch.equal(other.states[~where], cond.states[~where])
    cosines = cosine_similarity(other.states[where], cond.states[where], dim=-1)
    torch.testing.assert_close(cosines, torch.full_like(cosines, 0.6), rtol=1e-9, atol=0)


def test_the_artifact_is_closed_form_and_lora(model: StableDiffusionModel) -> None:
    for settings in ({}, {"sites": "cross_kv"}, {"anisotropic": True}):
        config = Config(**{**vars(SMALL), **settings})  # type: ignore[arg-type]
        run = Run(spec=RunSpec("tiny", model.fingerprint(), "realera", {}, (CONCEPT,)))
        erasure = realera(model, (CONCEPT,), config, run)
        assert [edit.op for edit in erasure.edits] == ["low_rank", "low_rank"]
        assert set(erasure.edits[1].tensors) == {
            f"{n}.{end}"
            for n, w in model.parameter_group(config.target_modules).parameters.items()
            if w.ndim > 1
            for end in ("up", "down")
        }
        with applied(model, erasure):
            now = {n: w.detach().clone() for n, w in model.parameter_group(config.target_modules).parameters.items()}
        first = model.parameter_group(config.target_modules).parameters
        assert all(not torch.equal(now[n], w) for n, w in first.items() if w.ndim > 1)
    assert len(run.history["train"]) == 3


def test_a_lora_on_edited_weights(model: StableDiffusionModel) -> None:
    sites = model.parameter_group("cross_kv")
    edited = {sites.paths[n]: 2 * w for n, w in sites.parameters.items()}
    adapter = LoraAdapter(model, "attn_all", 3, torch.Generator().manual_seed(0), edited)
    z, cond = torch.randn(1, 4, 8, 8, dtype=torch.float64), model.encode(["a gun"])
    assert torch.equal(adapter.predict(z, 5, cond).value, model.predict(z, 5, cond, params=edited).value), (
        "B begins at zero"
    )
    with torch.no_grad():
        for up in adapter.ups.values():
            up.fill_(0.1)
    params = adapter.params()
    for name, (up, down) in adapter.factors().items():
        base = (2 if name in sites.parameters else 1) * model.parameter_group("attn_all").parameters[name]
        torch.testing.assert_close(
            params[model.parameter_group("attn_all").paths[name]].detach(), base + up @ down, rtol=1e-6, atol=1e-6
        )
    assert not any(name.endswith("bias") for name in params)
