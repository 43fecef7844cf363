"""SAGE's losses, settings and trained components."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.tiny import TEMPLATES, WIDTH, erasure_of, tiny_model, tiny_of
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.spec import RunSpec
from efface.methods.sage import Config, sage
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.apply import applied
from efface.ops.training.run import Run

FEW_STEPS: dict[str, Any] = {
    "steps": 4,
    "warmup_steps": 2,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "attack_steps": 2,
    "top_k": 1,
    "num_inference_steps": 2,
}
CONCEPT = Concept("gun", retain_prompts=("a cat", "a dog"), template_library=TEMPLATES)


def erase(model: StableDiffusionModel, concept: Concept = CONCEPT, **settings: Any) -> tuple[Erasure, Run]:
    run = Run(seed=0, spec=RunSpec("tiny", {}, "sage", {}, (concept,)))
    return sage(model, (concept,), Config(**{**FEW_STEPS, **settings}), run), run


def history(concept: Concept = CONCEPT, **settings: Any) -> list[dict[str, float]]:
    """The losses of every step."""
    return erase(tiny_model(), concept, **settings)[1].history["train"]


def state_changes(model: StableDiffusionModel, erasure: Erasure, prompts: tuple[str, ...]) -> Tensor:
    """The changes of the prompts' states, ``(P, L, D)``."""
    with torch.no_grad():
        original = model.encode(prompts).states
        with applied(model, erasure_of(model, list(erasure.edits), dict(erasure.tensors))):
            return model.encode(prompts).states - original


def test_the_attack_starts_after_the_warm_up() -> None:
    steps = history()
    ratio = steps[2]["erase"] / steps[1]["erase"]
    assert ratio > 1.3, "after the warm-up, the loss sums over attacked prompts, too"
    assert steps[0]["graph"] == pytest.approx(0, abs=1e-10), "an untrained encoder has not drifted"
    assert steps[-1]["graph"] > 0


@pytest.mark.slow
def test_a_style_weighs_the_graph_more() -> None:
    def graph_after_training(kind: str) -> float:
        concept = replace(CONCEPT, kind=kind)
        settings = {"steps": 12, "warmup_steps": 12, "graph_weight": 0.0, "graph_weight_style": 1000.0}
        return history(concept, **settings)[-1]["graph"]

    assert graph_after_training("style") < 0.5 * graph_after_training("object")


@pytest.mark.slow
@pytest.mark.slow
def test_retention_losses_reduce_the_change_of_retain_prompts() -> None:
    def change(**weights: float) -> float:
        model = tiny_model()
        settings = {"steps": 30, "warmup_steps": 30, "learning_rate": 3e-3}
        erasure = erase(model, **settings, **weights)[0]
        return float(state_changes(model, erasure, CONCEPT.retain_prompts).square().mean())

    assert change(graph_weight=100.0, local_weight=10.0) < 0.7 * change(graph_weight=0.0, local_weight=0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "neg_promt"}, "did you mean 'neg_prompt'"),
        ({"attack_objective": "recover"}, "attack objective"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"graph_reference": "crss"}, "did you mean 'cross'"),
        ({"top_k": 4}, "4 retain prompts"),
        ({"warmup_steps": -1}, "set warmup_steps to 0 or more"),
    ],
)
def test_invalid_settings_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EffaceError, match=message):
        history(**settings)


@pytest.mark.filterwarnings("ignore:.*cut")
def test_a_template_that_cuts_off_the_concept_is_an_error() -> None:
    with pytest.raises(EffaceError, match="cuts off 'gun'"):
        history(replace(CONCEPT, template_library=("a b c d e f g h i j k l m n {}",)))


@pytest.mark.slow
def test_on_sdxl_both_encoders_change_more_for_the_concept_than_for_retain_prompts() -> None:
    model = tiny_of("sdxl")
    with torch.no_grad():  # a random denoiser hardly depends on the prompt
        for weight in model.parameter_group("cross_all").parameters.values():
            weight *= 4
    settings = {"steps": 40, "warmup_steps": 5, "learning_rate": 5e-4, "batch_size": 4, "attack_steps": 3}
    weights = {"graph_weight": 1000.0, "local_weight": 100.0, "negative_guidance": 3.0, "top_k": 2}
    erasure = erase(model, **settings, **weights, graph_reference="cross", num_inference_steps=4)[0]
    assert [edit.component for edit in erasure.edits] == ["text_encoder", "text_encoder_2"]
    concept_change = state_changes(model, erasure, ("a gun", "my gun"))
    retain_change = state_changes(model, erasure, CONCEPT.retain_prompts)
    with torch.no_grad():
        original = model.encode(["a gun", "my gun"]).states
    for encoder in (slice(WIDTH), slice(WIDTH, None)):
        assert float(concept_change[..., encoder].norm()) > 0.05 * float(original[..., encoder].norm())
        assert float(retain_change[..., encoder].norm()) < 0.7 * float(concept_change[..., encoder].norm())
