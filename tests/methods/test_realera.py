"""RealEra's closed form and the form of its erasure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny import tiny_model
from torch.nn.functional import cosine_similarity

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.spec import RunSpec
from efface.methods.realera import Config, _closed_form, realera
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import EmbeddingCache, build_pairs, concept_prompts
from efface.ops.editing.apply import applied
from efface.ops.text.neighbourhood import Neighbourhood
from efface.ops.training.run import Run

CONCEPT = Concept("gun", anchor="cat", retain_prompts=("a dog", "a cat", "dog by cat"))
FEW_STEPS = Config(
    steps=3, trajectories_per_prompt=1, num_inference_steps=4, learning_rate=1e-2, num_neighbours=5, num_beyond=7
)


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    return tiny_model(dtype=torch.float64)


def erase(model: StableDiffusionModel, **settings: Any) -> tuple[Erasure, Run]:
    run = Run(spec=RunSpec("tiny", model.fingerprint(), "realera", {}, (CONCEPT,)))
    return realera(model, (CONCEPT,), Config(**{**vars(FEW_STEPS), **settings}), run), run


def test_the_closed_form_is_the_published_formula_of_each_layer(model: StableDiffusionModel) -> None:
    config = FEW_STEPS
    pairs = build_pairs(EmbeddingCache.for_model(model), concept_prompts(CONCEPT, 0), "last")
    near = Neighbourhood(config.neighbour_min_cosine, config.neighbour_max_cosine, config.neighbour_max_distance)
    beyond = Neighbourhood(config.beyond_min_cosine, config.beyond_max_cosine)
    problem = _closed_form(pairs, near, beyond, None, config, torch.Generator().manual_seed(0))
    states, weights = problem.preserve.columns(32)
    assert (len(problem.pairs), len(weights)) == (1 + 5, 7)
    assert float(weights.sum()) == pytest.approx(config.beyond_weight)
    assert float(cosine_similarity(states, pairs.source, dim=0).max()) <= config.beyond_max_cosine + 1e-9
    k, a, w = problem.pairs.source, problem.pairs.anchor, problem.pairs.weight
    for weight in model.parameter_group("cross_kv").parameters.values():
        left = config.ridge * weight + weight @ (a * w) @ k.T + weight @ (states * weights) @ states.T
        right = config.ridge * torch.eye(32, dtype=torch.float64) + (k * w) @ k.T + (states * weights) @ states.T
        edited = weight @ problem.solve().matrix()
        torch.testing.assert_close(edited, left @ torch.inverse(right), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("target_modules", ["attn_all", "cross_kv"])
def test_the_erasure_is_a_closed_form_edit_and_a_lora(model: StableDiffusionModel, target_modules: str) -> None:
    erasure, run = erase(model, target_modules=target_modules)
    assert [edit.op for edit in erasure.edits] == ["low_rank", "low_rank"]
    matrices = {n: w for n, w in model.parameter_group(target_modules).parameters.items() if w.ndim > 1}
    assert set(erasure.edits[1].tensors) == {f"{name}.{end}" for name in matrices for end in ("up", "down")}
    originals = {name: weight.detach().clone() for name, weight in matrices.items()}
    with applied(model, erasure):
        assert not any(torch.equal(matrices[name], weight) for name, weight in originals.items())
    assert len(run.history["train"]) == 3


def test_no_steps_leave_the_closed_form_alone(model: StableDiffusionModel) -> None:
    erasure, run = erase(model, steps=0)
    assert [edit.op for edit in erasure.edits] == ["low_rank"]
    assert "train" not in run.history


@pytest.mark.parametrize("settings", [{"anisotropic": True}, {"preserve_weight": 1.0}, {"beyond_weight": 0.0}])
def test_settings_change_the_closed_form(model: StableDiffusionModel, settings: dict[str, Any]) -> None:
    default, changed = erase(model, steps=0)[0], erase(model, steps=0, **settings)[0]
    assert default.edits == changed.edits
    assert any(
        default.tensors[name].numpy().tolist() != changed.tensors[name].numpy().tolist() for name in default.tensors
    )
