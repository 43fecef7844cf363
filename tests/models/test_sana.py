"""Sana through its adapter: the family that docs/add_a_model_family.md takes as its example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from helpers.tiny import TEMPLATES, state_bytes
from helpers.tiny_sana import LENGTH, tiny_sana, tiny_sana_pipe

from efface import api
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.builder import wrap_pipeline
from efface.models.loading import load_model
from efface.models.soft_prompt import token_embedding
from efface.ops.editing.apply import applied
from efface.ops.text.concept_tokens import locate_concept

PROMPTS = ["a photo of a gun", "a cat and a dog"]
CONCEPT = Concept("gun", anchor="dog", retain_prompts=("a cat", "the photo"), template_library=TEMPLATES)
SETTINGS: dict[str, dict[str, Any]] = {
    "esd": {
        "steps": 40, "learning_rate": 1e-3, "trajectories_per_prompt": 2, "retain_weight": 30.0, "batch_size": 4,
        "num_inference_steps": 3, "negative_guidance": 3.0,
    },
    "uce": {"preserve_scale": 10.0, "ridge": 0.1},
}  # fmt: skip


def test_images_equal_those_of_diffusers() -> None:
    model = tiny_sana()
    ours = model.sample(PROMPTS, seeds=[3, 4], num_inference_steps=4, guidance_scale=4.0)
    theirs = model.pipe(
        PROMPTS,
        height=model.image_size,
        width=model.image_size,
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
        num_inference_steps=4,
        guidance_scale=4.0,
        max_sequence_length=LENGTH,
        complex_human_instruction=None,
        use_resolution_binning=False,
        output_type="pt",
    ).images
    assert ours.shape == (2, 3, 32, 32)
    assert (ours - theirs).abs().max() < 1e-4
    assert (ours[0] - ours[1]).abs().max() > 0.01
    alone = model.sample(PROMPTS[1:], seeds=[4], num_inference_steps=4, guidance_scale=4.0)
    assert (alone[0] - ours[1]).abs().max() < 1e-4


def test_a_dpm_solver_for_flows_gives_eulers_noise_levels() -> None:
    solver = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    model = wrap_pipeline(tiny_sana_pipe(scheduler=solver), "sana")
    assert torch.equal(model.schedule(5).sigmas, tiny_sana().schedule(5).sigmas)
    with pytest.raises(EffaceError, match="is not Euler's sampler for flow matching"):
        wrap_pipeline(tiny_sana_pipe(scheduler=DDIMScheduler()), "sana")


def test_tokens_end_where_the_prompt_ends_and_padding_is_masked() -> None:
    model = tiny_sana()
    tokens = model.tokenize(PROMPTS)
    assert tokens.eos.tolist() == [6, 6]
    assert tokens.mask.sum(1).tolist() == [6, 6]
    assert model.detokenize(tokens.ids[0, 1:6].tolist()) == PROMPTS[0]
    assert locate_concept(model, PROMPTS, ["gun", "cat"]).concept_positions[:, 0].tolist() == [5, 2]
    assert {"cat", "gun"} <= set(model.vocabulary_words())
    cond = model.encode(PROMPTS)
    assert torch.equal(cond[1:].mask, cond.mask[1:])
    z = model.initial_noise([1])
    states = cond.states.clone()
    states[:, 6:] += 1.0
    changed = model.predict(z, 500, type(cond)(states, cond.pooled, mask=cond.mask)[:1]).value
    assert torch.allclose(changed, model.predict(z, 500, cond[:1]).value, atol=1e-6)


def test_embeddings_of_words_encode_like_the_words() -> None:
    model = tiny_sana()
    table, tokens = token_embedding(model.encoders[0].module), model.tokenize(["cat gun dog"])
    written, inserted = model.encode(tokens), model.encode(["dog"], soft=_looked_up(table, tokens.ids[:1, 1:3]))
    assert torch.equal(inserted.mask, written.mask)
    torch.testing.assert_close(inserted.states[:, :4], written.states[:, :4])


def _looked_up(table: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        embeddings: torch.Tensor = table(ids)
    return embeddings


def test_images_are_encoded_and_decoded_and_folders_give_back_every_tensor(tmp_path: Path) -> None:
    model = tiny_sana()
    images = torch.rand(1, 3, 32, 32)
    latents = model.encode_image(images)
    torch.testing.assert_close(latents, model.vae.encode(images * 2 - 1).latent * 0.4)
    assert model.decode(latents).shape == images.shape
    model.pipe.save_pretrained(tmp_path / "sana")
    loaded = load_model(tmp_path / "sana")
    assert (loaded.family, loaded.fingerprint()) == ("sana", model.fingerprint())
    assert state_bytes(loaded) == state_bytes(model)


@pytest.mark.parametrize("name", ["uce", pytest.param("esd", marks=pytest.mark.slow)])
def test_the_concept_moves_more_than_retained_prompts(name: str, tmp_path: Path) -> None:
    model = tiny_sana()
    before = state_bytes(model)
    api.erase(CONCEPT, out=tmp_path / "e", model=model, method=name, config=SETTINGS[name], quick_evaluation=False)
    z = model.initial_noise(range(4))
    texts = ("a gun", *CONCEPT.retain_prompts)

    def predict(text: str) -> torch.Tensor:
        with torch.no_grad():
            return model.predict(z, 600, model.encode([text] * 4)).value

    original = {text: predict(text) for text in texts}
    with applied(model, Erasure.load(tmp_path / "e")):
        change = {text: float((predict(text) - original[text]).norm()) for text in texts}
    assert change["a gun"] > 1.2 * max(change[text] for text in CONCEPT.retain_prompts)
    assert state_bytes(model) == before


def test_a_negative_prompt_changes_images_and_other_methods_are_refused(tmp_path: Path) -> None:
    model = tiny_sana()
    options = {"seeds": [7], "num_inference_steps": 2, "guidance_scale": 4.0}
    plain = model.sample(["a gun"], **options)
    api.erase(CONCEPT, out=tmp_path / "e", model=model, method="negative_prompt", quick_evaluation=False)
    with applied(model, Erasure.load(tmp_path / "e")):
        assert (model.sample(["a gun"], **options) - plain).abs().max() > 1e-3
    with pytest.raises(EffaceError, match="erase_anything does not support sana models"):
        api.erase(CONCEPT, out=tmp_path / "f", model=model, method="erase_anything")
