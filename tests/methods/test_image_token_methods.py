"""The contract of the methods for autoregressive image models, and EAR's rules, on a tiny Janus."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.interrupt import InterruptAfter
from helpers.tiny_janus import tiny_janus

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.registry import METHODS
from efface.core.spec import RunSpec
from efface.execution import run_method
from efface.models.janus import JanusModel
from efface.ops.editing.apply import applied
from efface.ops.training.loop import Step
from efface.ops.training.run import Run

TRAINED = ("ear", "esd_logits")
ALL = (*TRAINED, "negative_prompt")
SMALL: dict[str, dict[str, Any]] = {
    "ear": {"steps": 3, "window": 6, "learning_rate": 1e-2, "num_templates": 2, "target_modules": "attn:0-1"},
    "esd_logits": {"steps": 3, "learning_rate": 1e-2, "num_templates": 2, "retain_weight": 1.0},
    "negative_prompt": {},
}
CONCEPT = Concept("gun", anchor="cat", retain_prompts=("a cat", "a dog in the snow"))


def run(name: str, out: Path, model: JanusModel | None = None, **options: Any) -> Erasure:
    settings = {**SMALL[name], **options.pop("settings", {})}
    defaults: dict[str, Any] = {"preset": "paper", "seed": 3, "resume": False, "progress": None}
    return run_method(
        model or tiny_janus(), (CONCEPT,), out, METHODS.get(name), overrides=settings, overwrite=False,  # type: ignore[arg-type]
        quick_evaluation=False, **(defaults | options),
    )  # fmt: skip


def train(name: str, model: JanusModel, concept: Concept = CONCEPT, **settings: Any) -> Erasure:
    """Runs the method alone, without the checks of images before and after."""
    function: Any = METHODS.get(name)
    config = sys.modules[function.__module__].Config(**(SMALL[name] | settings))
    spec = RunSpec(model.name, model.fingerprint(), name, asdict(config), (concept,), 3, "paper")
    return function(model, (concept,), config, Run(seed=3, spec=spec))  # type: ignore[no-any-return]


def image(model: JanusModel) -> torch.Tensor:
    return model.sample(["a photo of a gun"], seeds=[4])


@pytest.mark.parametrize("name", ALL)
def test_a_saved_erasure_changes_images_and_can_be_removed_exactly(name: str, tmp_path: Path) -> None:
    model = tiny_janus()
    state, before = {key: value.clone() for key, value in model.module.state_dict().items()}, image(model)
    run(name, tmp_path / "e", model)
    assert torch.equal(image(model), before)
    with applied(model, Erasure.load(tmp_path / "e")):
        after = image(model)
    assert not torch.equal(after, before)
    assert torch.equal(image(model), before)
    assert all(torch.equal(value, state[key]) for key, value in model.module.state_dict().items())


@pytest.mark.parametrize("name", TRAINED)
def test_an_interrupted_run_resumes_to_the_same_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(name, tmp_path / "first")
    monkeypatch.setattr("efface.execution.erasure.Run", partial(Run, checkpoint_every=2))
    with pytest.raises(KeyboardInterrupt):
        run(name, tmp_path / "e", progress=InterruptAfter(2))
    resumed = run(name, tmp_path / "e", resume=True)
    assert resumed.tensors_path.read_bytes() == first.tensors_path.read_bytes()


@pytest.mark.parametrize("settings", [{"context": "none"}, {"trajectories": "shared"}, {"batch_size": 2}])
def test_ear_trains_in_every_reading(settings: dict[str, Any]) -> None:
    model = tiny_janus()
    before = image(model)
    with applied(model, train("ear", model, **settings)):
        assert not torch.equal(image(model), before)


def updates_of(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> int:
    """Number of updates in one step over 16 image tokens."""
    calls: list[float] = []
    original = Step.optimize

    def count(step: Step, loss: torch.Tensor, parts: Any = None) -> None:
        calls.append(float(loss.detach()))
        original(step, loss, parts)

    monkeypatch.setattr(Step, "optimize", count)
    train("ear", tiny_janus(), **{"steps": 1, "window": 6, **settings})
    return len(calls)


@pytest.mark.parametrize(
    ("settings", "updates"),
    [({}, 3), ({"incomplete_window": "drop"}, 2), ({"window": 16}, 1), ({"window": 4}, 4)],
)
def test_ear_updates_once_a_window(settings: dict[str, Any], updates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert updates_of(monkeypatch, **settings) == updates


def test_ear_skips_windows_below_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    assert updates_of(monkeypatch, threshold=1e9) == 0


def test_ear_changes_the_attention_of_the_chosen_layers_alone() -> None:
    (edit,) = train("ear", tiny_janus(), target_modules="attn:1").edits
    assert edit.component == "language_model"
    assert set(edit.tensors) == {f"layers.1.self_attn.{part}_proj.weight" for part in "qkvo"}


@pytest.mark.parametrize("field", ["context", "trajectories", "incomplete_window"])
def test_a_choice_that_does_not_exist_is_named(field: str) -> None:
    with pytest.raises(UnknownNameError, match="sometimes"):
        train("ear", tiny_janus(), **{field: "sometimes"})


def test_a_retain_weight_without_retain_prompts_is_refused() -> None:
    with pytest.raises(EffaceError, match="give --retain-file, or set retain_weight to 0"):
        train("ear", tiny_janus(), Concept("gun", anchor="cat"), retain_weight=1.0)


def test_a_method_of_diffusion_models_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="esd does not support janus models such as tiny-janus"):
        run_method(
            tiny_janus(), (CONCEPT,), tmp_path / "e", METHODS.get("esd"), preset="paper", overrides={}, seed=0,  # type: ignore[arg-type]
            resume=False, overwrite=False, progress=None,
        )  # fmt: skip
