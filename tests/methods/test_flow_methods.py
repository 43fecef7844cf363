"""Methods on tiny FLUX and SD3 models: the concept's prediction moves, retained prompts' predictions move less."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fast import slow_but
from helpers.tiny import TEMPLATES, state_bytes
from helpers.tiny_flow import FLOW_PIPES, tiny_flow_of, tiny_flux_pipe

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.execution import resolve_config, run_method
from efface.models.builder import wrap_pipeline
from efface.ops.attention.joint_attention import attention_norm, joint_attention
from efface.ops.closed_form import PromptFilter
from efface.ops.editing.active_gates import active_gates
from efface.ops.editing.apply import applied
from efface.ops.tensor_conversion import to_torch
from efface.ops.text.phrase_states import PhraseStates
from efface.ops.training.trajectory_pool import TrajectoryPool

CONCEPT = Concept("gun", anchor="dog", retain_prompts=("a cat", "the photo"), template_library=TEMPLATES)
FEW_IMAGES = {"batch_size": 4, "num_inference_steps": 3}
SETTINGS: dict[str, dict[str, Any]] = {
    "negative_prompt": {},
    "esd": {**FEW_IMAGES, "steps": 20, "learning_rate": 3e-3, "trajectories_per_prompt": 2, "retain_weight": 30.0},
    "uce": {"preserve_scale": 10.0, "ridge": 0.1},
    "rece": {"ridge": 1.0, "epochs": 1, "uce_preserve_scale": 10.0},
    "speed": {
        "num_augmented": 0, "filter_retain": False, "eigenvalue_threshold": 1e-3, "retain_token_positions": "all",
    },
    "concept_ablation": {
        **FEW_IMAGES, "steps": 40, "learning_rate": 3e-3, "num_images": 4, "teacher": "original", "prior_weight": 20.0,
        "prior_source": "retain",
    },
    "sage": {
        "steps": 16, "warmup_steps": 12, "attack_steps": 2, "batch_size": 4, "num_inference_steps": 3, "top_k": 2,
        "learning_rate": 2e-3, "target": "concept_free", "negative_guidance": 0.0, "local_weight": 20.0,
    },
    "spm": {
        **FEW_IMAGES, "steps": 8, "learning_rate": 1e-2, "trajectories_per_prompt": 2, "anchor_weight": 0.0,
        "negative_guidance": 0.0, "transport_floor": 0.9,
    },
    "erase_anything": {
        **FEW_IMAGES, "steps": 40, "learning_rate": 3e-3, "num_images": 4, "target_modules": "attn_all",
        "preserve_source": "retain", "preserve_target": "original", "preserve_weight": 20.0, "negative_guidance": 0.0,
        "attention_weight": 1e-6, "contrast_weight": 1e-4, "num_irrelevant": 1,
    },
}  # fmt: skip


def erase(name: str, model: Any, out: Path, **more: Any) -> Erasure:
    settings = {**SETTINGS[name], **more}
    run_method(
        model, (CONCEPT,), out, METHODS.get(name), preset=None, overrides=settings, seed=3, resume=False,
        overwrite=False, progress=None,
    )  # fmt: skip
    return Erasure.load(out)


def sample(model: Any, prompt: str) -> torch.Tensor:
    return model.sample([prompt], seeds=[7], num_inference_steps=2, guidance_scale=model.default_guidance_scale)


@pytest.mark.parametrize("family", ["flux", pytest.param("sd3", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", slow_but(("esd", "uce"), SETTINGS))
def test_the_concept_moves_more_than_retained_prompts(name: str, family: str, tmp_path: Path) -> None:
    model = tiny_flow_of(family)
    state, z = state_bytes(model), model.initial_noise(range(4))
    erasure = erase(name, model, tmp_path / "e")
    assert state_bytes(model) == state
    texts = ("a gun", *CONCEPT.retain_prompts)
    if name == "negative_prompt":
        original = {text: sample(model, text) for text in texts[:1]}
        with applied(model, erasure):
            assert (sample(model, "a gun") - original["a gun"]).abs().max() > 1e-3
        assert torch.equal(sample(model, "a gun"), original["a gun"])
        return

    def predict(text: str) -> torch.Tensor:
        return model.predict(z, 600, model.encode([text] * 4)).value

    with torch.no_grad():
        original = {text: predict(text) for text in (*texts, "a dog")}
        with applied(model, erasure):
            edited = {text: predict(text) for text in texts}
    change = {text: float((edited[text] - original[text]).norm()) for text in texts}
    assert change["a gun"] > 1.5 * max(change[text] for text in CONCEPT.retain_prompts)
    if name == "sage":  # its target is the prompt without the concept
        assert {edit.component for edit in erasure.edits} == {encoder.component for encoder in model.encoders}
    elif name not in ("esd", "spm"):  # ESD's target is another; SPM's membranes fit the latents of trajectories alone
        before, after = ((pred["a gun"] - original["a dog"]).norm() for pred in (original, edited))
        assert after < before, "the anchor's prediction is the target"
    assert state_bytes(model) == state


@pytest.mark.parametrize("family", slow_but(["flux"], FLOW_PIPES))
def test_erase_anything_suppresses_the_attention_to_the_concept(family: str, tmp_path: Path) -> None:
    model = tiny_flow_of(family)
    settings = {"steps": 20, "learning_rate": 1e-2, "attention_weight": 1.0}
    erasure = erase("erase_anything", model, tmp_path / "e", **settings)
    prompts, z = PhraseStates.encode(model, ["a photo of a gun"], ["gun"]), model.initial_noise([1])

    def attention() -> float:
        with torch.no_grad(), joint_attention(model) as layer:
            model.predict(z, 500, prompts.cond)
            return float(attention_norm(layer.columns(prompts.mask)))

    unedited = attention()
    with applied(model, erasure):
        assert attention() < 0.8 * unedited


def test_gradient_checkpointing_does_not_change_erase_anything(tmp_path: Path) -> None:
    settings = {"steps": 3, "attention_weight": 0.01}
    plain = erase("erase_anything", tiny_flow_of("flux"), tmp_path / "plain", **settings)
    model = tiny_flow_of("flux")
    model.transformer.enable_gradient_checkpointing()
    checkpointed = erase("erase_anything", model, tmp_path / "checkpointed", **settings)
    for name, tensor in plain.tensors.items():
        assert torch.allclose(to_torch(tensor), to_torch(checkpointed.tensors[name]), atol=1e-6), name


@pytest.mark.parametrize("family", ["flux", pytest.param("sd3", marks=pytest.mark.slow)])
def test_a_membrane_has_the_prompts_strength_in_our_sampler_and_in_diffusers(family: str, tmp_path: Path) -> None:
    model = tiny_flow_of(family)
    erasure = erase("spm", model, tmp_path / "e", steps=20, learning_rate=1e-2, transport_floor=0.999)
    losses = [entry["loss"] for entry in json.loads((tmp_path / "e" / "history.json").read_text())["train"]]
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
    options = {"num_inference_steps": 2, "guidance_scale": 4.0}
    kept = model.sample(["the photo"], seeds=[7], **options)
    with applied(model, erasure):
        (gate,) = active_gates(model)
        ours = [model.sample([prompt], seeds=[7], **options) for prompt in ("a gun", "the photo")]
        images = model.pipe(
            "a gun", height=16, width=16, max_sequence_length=model.max_sequence_length, output_type="pt",
            generator=torch.Generator().manual_seed(7), **options,
        ).images  # fmt: skip
    assert (gate.log["a gun"], gate.log["the photo"]) == (1.0, 0.0)
    assert (images - ours[0]).abs().max() < 1e-4
    assert (sample(model, "a gun") - ours[0]).abs().max() > 1e-3
    assert (ours[1] - kept).abs().max() < 1e-5


@pytest.mark.parametrize("family", FLOW_PIPES)
def test_a_closed_form_equals_a_filter_of_the_states(family: str, tmp_path: Path) -> None:
    model = tiny_flow_of(family)
    erasure = erase("uce", model, tmp_path / "e")
    unfiltered = sample(model, "a gun")
    with applied(model, erasure):
        edited = sample(model, "a gun")
    with PromptFilter.from_erasure(model, erasure).applied():
        filtered = sample(model, "a gun")
    assert (edited - filtered).abs().max() < 1e-4
    assert (edited - unfiltered).abs().max() > 1e-3
    with applied(model, erase("uce", model, tmp_path / "f", edit_format="filter")):
        assert (sample(model, "a gun") - edited).abs().max() < 1e-4


@pytest.mark.parametrize("family", FLOW_PIPES)
def test_settings_come_from_the_family(family: str) -> None:
    for name, role in (("esd", "text_stream"), ("uce", "reads_text"), ("concept_ablation", "text_stream_kv")):
        config, preset = resolve_config(METHODS.get(name), None, "some-model", {}, family)
        assert (config.target_modules, preset) == (role, family)


def test_methods_of_other_families_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="mace does not support flux models such as tiny-flux: it supports sd1"):
        run_method(
            tiny_flow_of("flux"), (CONCEPT,), tmp_path / "e", METHODS.get("mace"), preset=None, overrides={}, seed=0,
            resume=False, overwrite=False, progress=None,
        )  # fmt: skip


def test_trajectories_use_the_guidance_scale_of_predictions() -> None:
    model = tiny_flow_of("flux")
    with pytest.raises(EffaceError, match=r"reads the guidance scale, 3.5 in training: set guidance_scale=3.5, not 3"):
        TrajectoryPool(model, ["a gun"], guidance_scale=3.0)
    pool = TrajectoryPool(model, ["a gun"], guidance_scale=3.5, num_inference_steps=3, trajectories_per_prompt=1)
    batch = pool.sample(4, torch.Generator().manual_seed(0))
    assert torch.allclose(model.predict(batch.z, batch.t, batch.cond).value, batch.conditional, atol=1e-5)
    schnell = wrap_pipeline(tiny_flux_pipe(guidance=False), "schnell")
    with pytest.raises(EffaceError, match=r"schnell is a model without guidance: set guidance_scale=0, not 3.5"):
        TrajectoryPool(schnell, ["a gun"], guidance_scale=3.5)
    assert TrajectoryPool(schnell, ["a gun"], guidance_scale=0.0, num_inference_steps=1).timesteps.is_floating_point()
