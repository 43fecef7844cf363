"""Stable Diffusion 1, 2 and XL through one adapter, compared with the plain diffusers pipeline."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
from helpers.tiny import (
    POOLED,
    WIDTH,
    WIDTH_2,
    state_bytes,
    tiny_of,
    tiny_pipe,
    tiny_sd2_pipe,
    tiny_sdxl_pipe,
    tiny_tokenizer,
)

from efface.core.attack_set import SoftPrompt
from efface.core.errors import EffaceError
from efface.models.loading import load_model
from efface.models.soft_prompt import SoftTokens
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.tensor_conversion import to_blob
from efface.ops.text.soft_prompts import embedding_table, nearest_words, to_soft_tokens

FAMILIES = ("sd1", "sd2", "sdxl")
PROMPTS = ["a gun", "a cat and a dog"]


def diffusers_images(pipe, model, prompt, seed, **options):
    """Images of the diffusers pipeline, with DDIM and the model's initial noise."""
    pipe.scheduler = DDIMScheduler.from_config(model.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 4, "guidance_scale": 5.0, "output_type": "pt", **options}
    return pipe(prompt, latents=model.initial_noise([seed]), **options).images


@pytest.mark.parametrize("family", FAMILIES)
def test_images_equal_those_of_diffusers(family):
    model = tiny_of(family)
    assert model.family == family
    ours = model.sample(PROMPTS, seeds=[3, 4], num_inference_steps=4, guidance_scale=5.0)
    for i, prompt in enumerate(PROMPTS):
        theirs = diffusers_images(model.pipe, model, prompt, 3 + i)
        assert (theirs[0] - ours[i]).abs().max() < 1e-4
    assert (ours[0] - ours[1]).abs().max() > 0.01


@pytest.mark.parametrize("zeros", [True, False])
def test_unconditional_predictions_of_sdxl_equal_those_of_its_pipeline(zeros):
    model = StableDiffusionModel(tiny_sdxl_pipe(force_zeros_for_empty_prompt=zeros), "xl")
    theirs = diffusers_images(model.pipe, model, "a gun", 3)
    ours = model.sample(["a gun"], seeds=[3], num_inference_steps=4, guidance_scale=5.0)
    assert (theirs[0] - ours[0]).abs().max() < 1e-4
    empty = model.unconditional(2)
    assert (float(empty.states.abs().sum()) == 0) == zeros
    assert (float(empty.pooled.abs().sum()) == 0) == zeros
    assert float(model.encode([""]).states.abs().sum()) > 0, "the empty prompt is encoded like every other prompt"


def test_encodings_equal_those_of_diffusers():
    model = tiny_of("sdxl")
    states, _, pooled, _ = model.pipe.encode_prompt(PROMPTS, device="cpu", do_classifier_free_guidance=True)
    cond = model.encode(PROMPTS)
    assert cond.states.shape == (2, 16, WIDTH + WIDTH_2)
    assert cond.pooled.shape == (2, POOLED)
    assert torch.equal(cond.states, states)
    assert torch.equal(cond.pooled, pooled)
    for family in ("sd1", "sd2"):
        model = tiny_of(family)
        assert torch.equal(model.encode(PROMPTS).states, model.pipe.encode_prompt(PROMPTS, "cpu", 1, False)[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_prediction_converts_between_its_forms(family):
    model = tiny_of(family)
    z = model.initial_noise([1, 2])
    p = model.predict(z, torch.tensor([400, 900]), model.encode(PROMPTS))
    assert p.prediction_type == ("v_prediction" if family == "sd2" else "epsilon")
    assert torch.allclose(p.alpha * p.x0 + p.sigma * p.epsilon, z, atol=1e-4)
    assert torch.allclose(p.alpha * p.epsilon - p.sigma * p.x0, p.velocity, atol=1e-3)


def test_trajectories_hold_the_latents_that_the_denoiser_reads():
    """SDXL's own sampler starts from noise of length 14.6 and scales it back; ours starts from unit noise."""
    model = tiny_of("sdxl")
    assert float(model.scheduler.init_noise_sigma) == 1
    assert not model.scheduler.config.clip_sample
    assert model.scheduler.config.set_alpha_to_one, "as SDXL's own sampler, which ends without noise"
    points = list(model.trajectory(model.encode(["a gun"]), num_inference_steps=3, guidance_scale=2.0, seeds=[1]))
    assert torch.equal(points[0].z, model.initial_noise([1]))
    p = points[0].conditional
    assert torch.allclose(model.add_noise(p.x0, p.epsilon, torch.tensor([points[0].t])), points[0].z, atol=1e-4)
    assert torch.allclose(
        model.predict(points[1].z, points[1].t, model.encode(["a gun"])).value, points[1].conditional.value, atol=1e-5
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_of_words_encode_like_the_words(family):
    model = tiny_of(family)
    table, ids = embedding_table(model), model.tokenize(["cat gun"]).ids[0, 1:3]
    assert table.shape[1] == sum(encoder.width for encoder in model.encoders)
    inserted = model.encode(["dog"], soft=table[ids][None])
    written = model.encode(["cat gun dog"])
    torch.testing.assert_close(inserted.states[:, :5], written.states[:, :5], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(inserted.pooled, written.pooled, rtol=1e-5, atol=1e-5)
    tokens = model.tokenize(["gun gun dog"])
    mask = torch.zeros_like(tokens.mask, dtype=torch.bool)
    mask[:, 1:3] = True
    embeddings = torch.zeros(1, 16, table.shape[1])
    embeddings[:, 1:3] = table[ids]
    replaced = model.encode(tokens, soft=SoftTokens(embeddings, mask))
    torch.testing.assert_close(replaced.states, written.states, rtol=1e-5, atol=1e-5)
    assert nearest_words(model, table[ids]) == "cat gun"
    other = tiny_of("sdxl" if family != "sdxl" else "sd1")
    with pytest.raises(EffaceError, match="has width"):
        to_soft_tokens(other, [SoftPrompt(to_blob(table[ids]), (1, 2))])


@pytest.mark.parametrize("family", FAMILIES)
def test_soft_embeddings_and_params_get_gradients_in_every_encoder(family):
    model = tiny_of(family)
    soft = embedding_table(model)[:2][None].clone().requires_grad_(True)
    group = model.parameter_group("text_all")
    student = {name: p.detach().clone().requires_grad_(True) for name, p in group.parameters.items()}
    before = state_bytes(model)
    cond = model.encode(PROMPTS, soft=soft, params=group.as_params(student))
    (cond.states.square().sum() + cond.pooled.square().sum()).backward()
    start = 0
    for encoder in model.encoders:
        assert float(soft.grad[..., start : start + encoder.width].abs().sum()) > 0
        start += encoder.width
    unread = [name for name, p in student.items() if p.grad is None]
    assert unread == [], "no role holds a parameter that the model never reads"
    assert state_bytes(model) == before


def test_params_replace_tensors_of_the_named_encoder_only():
    model = tiny_of("sdxl")
    base = model.encode(PROMPTS)
    for component, changed_columns, equal_columns in (
        ("text_encoder", slice(WIDTH), slice(WIDTH, None)),
        ("text_encoder_2", slice(WIDTH, None), slice(WIDTH)),
    ):
        group = model.parameter_group(f"{component}/text_mlp")
        assert group.components == (component,)
        changed = model.encode(PROMPTS, params=group.as_params({name: p * 2 for name, p in group.parameters.items()}))
        assert not torch.allclose(changed.states[..., changed_columns], base.states[..., changed_columns])
        assert torch.equal(changed.states[..., equal_columns], base.states[..., equal_columns])
        assert torch.equal(changed.pooled, base.pooled) == (component == "text_encoder")


def test_a_text_role_selects_in_both_encoders():
    model = tiny_of("sdxl")
    both = model.parameter_group("text_mlp")
    assert both.components == ("text_encoder", "text_encoder_2")
    assert len(both.parameters) == 4 * (2 - 1) + 4 * 3, "the model does not read the first encoder's last layer"
    assert len(model.parameter_group("text_mlp:last").parameters) == 4 + 4
    assert {name.split(".mlp")[0] for name in model.parameter_group("text_mlp:last").parameters} == {
        "encoder.layers.0",
        "text_encoder_2.encoder.layers.2",
    }
    mixed = model.parameter_group("text_encoder/text_mlp + text_encoder_2/text_attn:0")
    assert len(mixed.parameters) == 4 + 8
    assert "text_encoder_2.text_projection.weight" in model.parameter_group("text_all").parameters
    assert model.parameter_group("cross_kv").components == ("unet",)
    for role, message in (
        ("text_mlp:1", "layers 0 to 0"),
        ("text_encoder_3/text_mlp", "is in text_encoder and text_encoder_2, not in 'text_encoder_3'"),
        ("unet/text_mlp", "not in 'unet'"),
        ("text_encoder_2/text_mlp+cross_kv", "joins text encoder and denoiser"),
    ):
        with pytest.raises(EffaceError, match=message):
            model.parameter_group(role)
    with pytest.raises(EffaceError, match="is in text_encoder, not in"):
        tiny_of("sd1").parameter_group("text_encoder_2/text_mlp")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_component_has_a_fingerprint(family):
    model = tiny_of(family)
    prints = model.fingerprint()
    assert prints.keys() == model.components.keys()
    assert ("text_encoder_2" in prints) == (family == "sdxl")
    assert prints == tiny_of(family).fingerprint()
    assert prints["unet"] != tiny_of(family, seed=1).fingerprint()["unet"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near(family, dtype):
    full = tiny_of(family)
    half = load_model(tiny_of(family).pipe, dtype=dtype)
    assert half.unet.dtype == dtype
    assert (half.vae.dtype == torch.float32) == (family == "sdxl" and dtype == torch.float16), (
        "SDXL's autoencoder overflows in float16"
    )
    z = full.initial_noise([1])
    a, b = full.predict(z, 500, full.encode(["a gun"])), half.predict(z.to(dtype), 500, half.encode(["a gun"]))
    assert b.value.dtype == b.alpha.dtype == dtype
    assert float((a.epsilon - b.epsilon.float()).abs().max()) < 0.15
    images = half.sample(["a gun"], seeds=[1], num_inference_steps=2)
    assert images.dtype == torch.float32
    assert torch.isfinite(images).all()
    assert half.encode_image(images).dtype == dtype


def without(pipe, **changes):
    for name, value in changes.items():
        pipe.register_modules(**{name: value})
    return pipe


def test_unsupported_pipelines_are_refused_in_one_line():
    def with_half_text_encoder(pipe):
        pipe.text_encoder.half()
        return pipe

    other = StableDiffusionImg2ImgPipeline(**tiny_pipe().components, requires_safety_checker=False)
    inpainting = tiny_pipe(unet={"in_channels": 9})
    other_prediction = tiny_pipe()
    other_prediction.scheduler = DDIMScheduler.from_config(other_prediction.scheduler.config, prediction_type="sample")
    cases = (
        (other, "StableDiffusionImg2ImgPipeline is not supported: there are StableDiffusionPipeline"),
        (inpainting, "is an inpainting model.*reads 9 channels"),
        (without(tiny_pipe(), text_encoder=None), "has no text_encoder"),
        (without(tiny_sdxl_pipe(), text_encoder=None, tokenizer=None), "has no text_encoder, no tokenizer"),
        (without(tiny_sdxl_pipe(), tokenizer_2=tiny_tokenizer()), "different vocabularies"),
        (with_half_text_encoder(tiny_sd2_pipe()), r"mixes precisions \(text_encoder float16, unet float32.*dtype="),
        (other_prediction, "predicts 'sample'"),
        (torch.nn.Linear(1, 1), "Linear is not supported"),
    )
    for given, message in cases:
        with pytest.raises(EffaceError, match=message) as caught:
            load_model(given)
        assert "\n" not in str(caught.value)
    assert load_model(with_half_text_encoder(tiny_sd2_pipe()), dtype=torch.float32).text_encoder.dtype == torch.float32
