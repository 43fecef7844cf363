"""FLUX and SD3 through their adapters, compared with the plain diffusers pipelines."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import state_bytes
from helpers.tiny_flow import FAMILIES, PROMPTS, tiny_flow_of, tiny_flux_pipe, tiny_sd3_pipe

from efface.core.errors import EffaceError
from efface.models.builder import wrap_pipeline
from efface.models.loading import load_model

PIPES = {
    "FLUX.1-dev": lambda: tiny_flux_pipe(),
    "FLUX.1-schnell": lambda: tiny_flux_pipe(guidance=False, use_dynamic_shifting=False),
    "SD3": lambda: tiny_sd3_pipe(),
    "SD3 without T5": lambda: tiny_sd3_pipe(t5=False),
    "SD3.5 with dynamic shifting": lambda: tiny_sd3_pipe(use_dynamic_shifting=True, max_image_seq_len=64),
}


def diffusers_images(model, prompts, seeds, guidance_scale, **options):
    """Images of the diffusers pipeline, from the seeds' own generators."""
    return model.pipe(
        prompts,
        height=model.image_size,
        width=model.image_size,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        num_inference_steps=4,
        guidance_scale=guidance_scale,
        max_sequence_length=model.max_sequence_length,
        output_type="pt",
        **options,
    ).images


@pytest.mark.parametrize("name", PIPES)
def test_images_equal_those_of_diffusers(name):
    model, scale = wrap_pipeline(PIPES[name](), name), 0.0 if "schnell" in name else 4.0
    ours = model.sample(PROMPTS, seeds=[3, 4], num_inference_steps=4, guidance_scale=scale)
    theirs = diffusers_images(model, PROMPTS, [3, 4], scale)
    assert (ours - theirs).abs().max() < 1e-4
    assert (ours[0] - ours[1]).abs().max() > 0.01
    alone = model.sample(PROMPTS[1:], seeds=[4], num_inference_steps=4, guidance_scale=scale)
    assert (alone[0] - ours[1]).abs().max() < 1e-4


def test_images_of_pocket_flow_equal_those_of_diffusers():
    model = load_model("pocket-flow")
    assert (model.family, model.name, model.image_size) == ("flux", "pocket-flow", 64)
    ours = model.sample(["a photo of a cat"], seeds=[5], num_inference_steps=4, guidance_scale=3.5)
    assert (ours - diffusers_images(model, ["a photo of a cat"], [5], 3.5)).abs().max() < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_convert_between_velocity_noise_and_clean_latent(family):
    model = tiny_flow_of(family)
    clean, noise = model.initial_noise([1, 2]), model.initial_noise([3, 4])
    t = torch.tensor([250.0, 900.5])
    z = model.add_noise(clean, noise, t)
    assert torch.allclose(z[0], 0.75 * clean[0] + 0.25 * noise[0])
    p = model.predict(z, t, model.encode(PROMPTS))
    assert torch.equal(p.velocity, p.value)
    assert torch.allclose(p.epsilon - p.x0, p.velocity, atol=1e-5)
    assert torch.allclose(p.alpha * p.x0 + p.sigma * p.epsilon, z, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_trajectories_hold_both_predictions_and_do_not_disturb_each_other(family):
    model = tiny_flow_of(family)
    cond = model.encode(PROMPTS[:1])
    options = {"num_inference_steps": 3, "guidance_scale": 2.0}
    alone = list(model.trajectory(cond, seeds=[1], **options))
    first, second = (model.trajectory(cond, seeds=[seed], **options) for seed in (1, 2))
    interleaved = [point for point, _ in zip(first, second, strict=True)]
    assert [point.t for point in alone] == [point.t for point in interleaved]
    assert all(torch.equal(a.z, b.z) for a, b in zip(alone, interleaved, strict=True))
    assert alone[-1].t == -1
    point = alone[1]
    for given, expected in ((cond, point.conditional), (model.unconditional(1), point.unconditional)):
        predicted = model.predict(point.z, point.t, given.with_guidance(2.0))
        assert torch.allclose(predicted.value, expected.value, atol=1e-5)


def test_flux_samples_latents_without_predictions_for_the_empty_prompt(monkeypatch):
    model = tiny_flow_of("flux")
    cond, options = model.encode(PROMPTS), {"num_inference_steps": 2, "guidance_scale": 3.5, "seeds": [1, 2]}
    (*_, last) = model.trajectory(cond, **options)
    predict, rows = model.predict, []
    monkeypatch.setattr(model, "predict", lambda z, *args, **more: rows.append(len(z)) or predict(z, *args, **more))
    assert torch.allclose(model.sample_latents(cond, **options), last.z, atol=1e-5)
    assert rows == [2, 2]


def test_the_guidance_scale_is_a_condition_of_flux():
    model = tiny_flow_of("flux")
    z, cond = model.initial_noise([1, 2]), model.encode(PROMPTS)
    default, weak = model.predict(z, 500, cond), model.predict(z, 500, cond.with_guidance(1.0))
    assert torch.equal(default.value, model.predict(z, 500, cond.with_guidance(3.5)).value)
    assert not torch.equal(default.value, weak.value)
    assert torch.equal(cond.with_guidance(1.0)[1:].guidance, torch.ones(1))


def test_a_model_without_guidance_refuses_a_guidance_scale():
    model = wrap_pipeline(tiny_flux_pipe(guidance=False), "schnell")
    with pytest.raises(EffaceError, match=r"schnell is a FLUX model without guidance.*set the guidance scale to 0"):
        model.sample(["a cat"], seeds=[0], num_inference_steps=1, guidance_scale=3.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_folders_give_back_every_tensor(family, tmp_path):
    model = tiny_flow_of(family)
    model.pipe.save_pretrained(tmp_path / family)
    loaded = load_model(tmp_path / family)
    assert loaded.family == family
    assert state_bytes(loaded) == state_bytes(model)
    assert loaded.fingerprint() == model.fingerprint()
    assert loaded.fingerprint()["transformer"] != tiny_flow_of(family, seed=1).fingerprint()["transformer"]


def test_sd3_without_t5_is_loaded_from_its_folder(tmp_path):
    pipe = tiny_sd3_pipe(t5=False)
    pipe.save_pretrained(tmp_path / "sd3")
    assert load_model(tmp_path / "sd3").t5 is None


def test_a_pipeline_with_missing_or_foreign_parts_is_refused(tmp_path):
    pipe = tiny_flux_pipe()
    other = tiny_sd3_pipe().scheduler
    for part, value, message in (
        ("text_encoder_2", None, "has no text_encoder_2"),
        ("transformer", tiny_sd3_pipe().transformer, "transformer reads a pooled state 24 wide, not 32"),
        ("scheduler", type("DDIM", (), {"config": other.config})(), "is not Euler's sampler for flow matching"),
    ):
        broken = tiny_flux_pipe()
        setattr(broken, part, value)
        with pytest.raises(EffaceError, match=message):
            wrap_pipeline(broken, "broken")
    pipe.save_pretrained(tmp_path / "flux")
    (tmp_path / "flux" / "text_encoder_2" / "model.safetensors").unlink()
    with pytest.raises(EffaceError, match="text_encoder_2 holds no weights"):
        load_model(tmp_path / "flux")


@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_encoded_and_decoded_with_the_shift(family):
    model = tiny_flow_of(family)
    images = torch.rand(1, 3, 16, 16)
    mean = model.vae.encode(images * 2 - 1).latent_dist.mean
    latents = model.encode_image(images)
    torch.testing.assert_close(latents, (mean - 0.1) * 0.7)
    torch.testing.assert_close(model.decode(latents), (model.vae.decode(mean).sample / 2 + 0.5).clamp(0, 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_generates_finite_images(family):
    model = load_model(tiny_flow_of(family).pipe, dtype="bfloat16")
    images = model.sample(["a gun"], seeds=[1], num_inference_steps=2, guidance_scale=3.5)
    assert images.isfinite().all()
