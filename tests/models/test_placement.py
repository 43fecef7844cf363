"""Offloading: components move when they are needed, never under a gradient, and change no number."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.hooks import CpuOffload
from diffusers import FluxPipeline
from helpers.fast import slow_but
from helpers.poisoned_placement import PoisonedPlacement
from helpers.tiny import TEMPLATES, state_bytes, tiny_pipe
from helpers.tiny_flow import FLOW_PIPES, tiny_flux_pipe

import efface
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.core.spec import RunSpec
from efface.execution import resolve_config, run_method
from efface.models.builder import wrap_pipeline
from efface.models.loading import load_model
from efface.models.placement import execution_device, offload, placement_of
from efface.ops.editing.apply import applied
from efface.ops.training.run import Run

CPU = torch.device("cpu")
PIPES = {**FLOW_PIPES, "sd1": tiny_pipe}
ENCODERS = {"flux": 2, "sd3": 3, "sd1": 1}
CONCEPT = Concept("gun", anchor="dog", retain_prompts=("a cat", "the photo"), template_library=TEMPLATES)
SETTINGS: dict[str, dict[str, Any]] = {
    "esd": {"steps": 3, "batch_size": 2, "num_inference_steps": 2, "trajectories_per_prompt": 1, "retain_weight": 1.0},
    "erase_anything": {"steps": 4, "num_images": 2, "num_inference_steps": 2, "num_irrelevant": 1},
    "sage": {"steps": 2, "warmup_steps": 1, "attack_steps": 1, "batch_size": 2, "num_inference_steps": 2, "top_k": 1},
}  # fmt: skip
TRAINED = ("flux esd", "flux erase_anything", "sd3 esd", "sd3 erase_anything", "sd1 esd", "flux sage")


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> PoisonedPlacement:
    return PoisonedPlacement(monkeypatch)


def offloaded(family: str) -> Any:
    return wrap_pipeline(offload(PIPES[family](), CPU), f"tiny-{family}")


def trained_tensors(model: Any, method: str) -> dict[str, Any]:
    """Runs a method's own function; the artifact is not saved."""
    function = METHODS.get(method)
    config, preset = resolve_config(function, None, model.name, SETTINGS[method], model.family)
    spec = RunSpec(model.name, {}, method, asdict(config), (CONCEPT,), 3, preset)
    return dict(function(model, (CONCEPT,), config, Run(seed=3, device=model.device, spec=spec)).tensors)


def images(model: Any) -> torch.Tensor:
    return model.sample(["a gun", "a cat"], seeds=[1, 2], num_inference_steps=2, guidance_scale=2.0)


@pytest.mark.parametrize("family", PIPES)
def test_a_component_moves_in_when_it_is_needed_and_out_when_another_one_is(
    family: str, double: PoisonedPlacement
) -> None:
    model = offloaded(family)
    names = [encoder.component for encoder in model.encoders]
    assert len(names) == ENCODERS[family]
    assert sorted(double.moves) == sorted(f"{n} out" for n in model.components)
    double.moves.clear()
    cond = model.encode(["a gun"])
    assert [move for move in double.moves if move.endswith("in")] == [f"{name} in" for name in names]
    assert placement_of(model.denoiser).resident == {names[-1]}
    double.moves.clear()
    z = model.initial_noise([0])
    assert model.predict(z, 500, cond).value.isfinite().all()
    assert model.decode(z).isfinite().all()
    denoiser = "unet" if family == "sd1" else "transformer"
    assert double.moves == [f"{names[-1]} out", f"{denoiser} in", f"{denoiser} out", "vae in"]
    double.moves.clear()
    assert model.encode_image(torch.zeros(1, 3, 16, 16)).isfinite().all()
    assert not double.moves


@pytest.mark.parametrize("case", slow_but(TRAINED[:2], TRAINED))
def test_training_gives_the_same_weights_bit_for_bit(case: str, double: PoisonedPlacement) -> None:
    family, method = case.split()
    expected = trained_tensors(wrap_pipeline(PIPES[family](), f"tiny-{family}"), method)
    assert not double.moves
    assert trained_tensors(offloaded(family), method) == expected
    assert len(double.moves) > 10


def test_a_component_stays_while_a_gradient_is_pending(double: PoisonedPlacement) -> None:
    def gradient(model: Any) -> torch.Tensor:
        cond = model.encode(["a gun"])
        z = model.initial_noise([0]).requires_grad_(True)
        loss = model.predict(z, 500, cond).value.square().mean()
        double.moves.clear()
        model.encode(["a cat"])
        assert "transformer out" not in double.moves
        loss.backward()
        return z.grad

    model = offloaded("flux")
    assert gradient(model).equal(gradient(wrap_pipeline(tiny_flux_pipe(), "plain")))
    model.encode(["a cat"])
    assert "transformer out" in double.moves


def test_a_component_stays_while_its_parameters_are_in_use(double: PoisonedPlacement) -> None:
    model = offloaded("flux")
    parameters = model.parameter_group("text_stream").parameters
    model.encode(["a cat"])
    assert all(parameter.isfinite().all() for parameter in parameters.values())
    assert placement_of(model.transformer).resident == {"text_encoder_2", "transformer"}
    del parameters
    model.encode(["a cat"])
    assert "transformer" not in placement_of(model.transformer).resident


def test_replaced_parameters_reach_an_offloaded_component() -> None:
    model = offloaded("flux")
    group = model.parameter_group("text_stream")
    replaced = group.as_params({name: parameter * 2 for name, parameter in group.parameters.items()})
    cond, z = model.encode(["a gun"]), model.initial_noise([0])
    plain = wrap_pipeline(tiny_flux_pipe(), "plain")
    assert model.predict(z, 500, cond, params=replaced).value.equal(plain.predict(z, 500, cond, params=replaced).value)


@pytest.mark.parametrize("family", PIPES)
def test_both_samplers_generate_the_same_images(family: str, double: PoisonedPlacement) -> None:
    plain, model = wrap_pipeline(PIPES[family](), "plain"), offloaded(family)
    assert images(model).equal(images(plain))
    double.moves.clear()
    options = {"prompt": "a gun", "num_inference_steps": 2, "output_type": "pt", "height": 16, "width": 16}
    ours, theirs = (m.pipe(**options, generator=torch.Generator().manual_seed(0)).images for m in (model, plain))
    assert ours.equal(theirs)
    assert double.moves[-1] == "vae in"
    assert f"{model.encoders[0].component} in" in double.moves


def test_an_erasure_is_made_applied_removed_and_exported(tmp_path: Path) -> None:
    model, plain = offloaded("flux"), wrap_pipeline(tiny_flux_pipe(), "tiny-flux")
    options: Any = {"preset": None, "overrides": SETTINGS["esd"], "seed": 3, "resume": False, "overwrite": False}
    run_method(model, (CONCEPT,), tmp_path / "a", METHODS.get("esd"), progress=None, **options)
    erasure = efface.Erasure.load(tmp_path / "a")
    before, unedited = state_bytes(model), images(model)
    with applied(model, erasure), applied(plain, erasure):
        erased = images(model)
        assert erased.equal(images(plain))
        assert not erased.equal(unedited)
        model.pipe.save_pretrained(tmp_path / "b")
    assert state_bytes(model) == before
    assert images(model).equal(unedited)
    assert images(wrap_pipeline(FluxPipeline.from_pretrained(tmp_path / "b"), "c")).equal(erased)
    efface.export(tmp_path / "a", tmp_path / "c", format="diffusers", model=model.pipe)
    assert images(load_model(tmp_path / "c")).equal(erased)


def test_offloading_of_diffusers_is_taken_over() -> None:
    pipe = tiny_flux_pipe()
    pipe.enable_model_cpu_offload(device="cpu")
    model = load_model(pipe)
    assert all(placement_of(component) for component in model.components.values())
    assert load_model(pipe) is model
    assert model.device == execution_device(model.vae) == CPU
    expected = images(wrap_pipeline(tiny_flux_pipe(), "plain"))
    assert images(model).equal(expected)
    pipe.enable_model_cpu_offload(device="cpu")
    assert isinstance(pipe.vae._hf_hook, CpuOffload)
    with pytest.raises(EffaceError, match=r"has hooks.*efface\.load_model\(pipe"):
        images(model)
    assert load_model(pipe) is model
    assert images(model).equal(expected)
    pipe.remove_all_hooks()
    assert load_model(pipe.to("cpu")) is model
    assert placement_of(model.vae) is None
    assert images(model).equal(expected)


def test_what_cannot_be_offloaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EffaceError, match=r"computes on the CPU: omit --offload.*--device cuda"):
        load_model("pocket", device="cpu", offload=True)
    monkeypatch.setattr("efface.models.builder.default_device", lambda: CPU)
    with pytest.raises(EffaceError, match=r"computes on the CPU: omit --offload.*--device cuda"):
        load_model(tiny_pipe(), offload=True)
    with pytest.raises(EffaceError, match=r"pocket-lm is no diffusers pipeline.*omit --offload"):
        load_model("pocket-lm", offload=True)
