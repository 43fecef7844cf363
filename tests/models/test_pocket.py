"""Pocket through the adapter: the judge finds in its images what the prompts name."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from efface.core.errors import EffaceError
from efface.core.policy import ContentPolicyError
from efface.models.loading import load_model
from efface.models.model_ref import bundled_folder
from efface.pocket_world import load_world

WORLD = load_world()
FOLDER = bundled_folder("pocket")


def test_fits_in_the_package():
    size = sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file())
    assert size <= 25e6
    assert not [p for p in FOLDER.rglob("*") if p.suffix in {".bin", ".pt", ".ckpt", ".pkl"}]
    assert "SIL OPEN FONT LICENSE" in (FOLDER.parent / "OFL.txt").read_text()


def test_the_training_card_holds_the_hashes_of_the_files():
    import hashlib

    card = json.loads((FOLDER / "training_card.json").read_text())
    assert set(card["stages"]) == {"clip", "vae", "judge", "unet", "decoder", "image_prompt"}
    for name, digest in card["sha256"].items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_images_show_the_object_and_background_of_the_prompt(pocket, judge):
    objects = ["cat", "knife", "house", "car", "apple", "guitar", "hammer", "robot", "tree", "beer", "horse", "castle"]
    prompts = [
        f"a photo of a {WORLD.object_classes[o].name} {WORLD.backgrounds[b].phrases[0]}"
        for o in objects
        for b in ("snow", "beach")
    ]
    judgement = judge(pocket.sample(prompts, seeds=range(500, 500 + len(prompts)), batch_size=24))
    assert np.mean([o == a for o, a in zip(judgement.object, np.repeat(objects, 2), strict=True)]) >= 0.8
    assert np.mean([b == ("snow", "beach")[i % 2] for i, b in enumerate(judgement.background)]) >= 0.8


@pytest.mark.slow
def test_images_show_the_style_of_the_prompt(pocket, judge):
    styles = [s for s in WORLD.styles for _ in range(4)]
    prompts = [f"{WORLD.styles[s].prefixes[0]} a castle in the desert" for s in styles]
    judgement = judge(pocket.sample(prompts, seeds=range(len(prompts)), batch_size=24))
    assert np.mean([a == b for a, b in zip(judgement.style, styles, strict=True)]) >= 0.8


@pytest.mark.slow
def test_images_of_a_hypernym_show_its_members(pocket, judge):
    judgement = judge(pocket.sample(["a photo of a weapon"] * 16, seeds=range(16)))
    assert np.mean([o in WORLD.members("weapon") for o in judgement.object]) >= 0.6
    assert len(set(judgement.object)) >= 2


def test_embeddings_of_members_are_nearest_to_the_hypernym(pocket):
    things = list(WORLD.object_classes.values())
    objects = torch.nn.functional.normalize(pocket.encode([f"a photo of a {t.name}" for t in things]).pooled, dim=-1)
    weapon = torch.nn.functional.normalize(pocket.encode(["a photo of a weapon"]).pooled, dim=-1)
    top = (objects @ weapon.T)[:, 0].topk(7).indices.tolist()
    assert sum(things[i].category == "weapon" for i in top) >= 6


def test_an_image_depends_on_its_own_prompt_and_seed_only(pocket):
    prompts = ["a photo of a cat", "a photo of a dog", "", "a mosaic of a castle"]
    together = pocket.sample(prompts, seeds=[1, 2, 3, 4], num_inference_steps=3)
    alone = pocket.sample(prompts[1:2], seeds=[2], num_inference_steps=3)
    assert torch.allclose(together[1:2], alone, atol=2e-3)
    assert torch.equal(together, pocket.sample(prompts, seeds=[1, 2, 3, 4], num_inference_steps=3))
    assert not torch.allclose(together[1:2], pocket.sample(prompts[1:2], seeds=[5], num_inference_steps=3), atol=0.05)


def test_plain_diffusers_generates_the_same_image(pocket):
    pipe = StableDiffusionPipeline.from_pretrained(FOLDER)
    pipe.set_progress_bar_config(disable=True)
    latents = pocket.initial_noise([11])
    theirs = pipe(
        "a photo of a cat", num_inference_steps=6, guidance_scale=3.0, latents=latents, output_type="np"
    ).images[0]
    ours = (
        pocket.sample(["a photo of a cat"], seeds=[11], num_inference_steps=6, guidance_scale=3.0)[0]
        .permute(1, 2, 0)
        .numpy()
    )
    assert np.abs(theirs - ours).max() < 5e-3


def test_the_pooled_state_is_the_first_end_of_text_state(pocket):
    tokens = pocket.tokenize(["a photo of a cat", ""])
    cond = pocket.encode(tokens)
    assert tokens.eos.tolist() == [6, 1]
    assert torch.allclose(cond.pooled, cond.states[torch.arange(2), tokens.eos], atol=1e-5)
    assert tokens.mask.sum(1).tolist() == [7, 2]


def test_a_long_prompt_warns_with_the_text_that_was_cut_off(pocket):
    with pytest.warns(UserWarning, match="cut off: 'horse"):
        pocket.tokenize([" ".join(["cat"] * 22 + ["horse", "owl"])])
    with pytest.warns(UserWarning, match=r"\(one of 2\); cut off: 'dog'") as caught:
        pocket.tokenize(["a cat", " ".join(["cat"] * 22 + ["dog"]), " ".join(["owl"] * 30)])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pocket.tokenize([" ".join(["cat"] * 22)])


def test_soft_tokens_and_substitute_parameters(pocket):
    words = pocket.encode(["photo of a cat"])
    table = pocket.text_encoder.get_input_embeddings().weight
    ids = pocket.tokenize(["photo of"]).ids[0, 1:3]
    soft = table[ids][None].clone().requires_grad_(True)
    spliced = pocket.encode(["a cat"], soft=soft)
    assert torch.allclose(spliced.states[:, :5], words.states[:, :5], atol=1e-5)
    spliced.states.sum().backward()
    assert soft.grad is not None
    assert soft.grad.abs().sum() > 0
    name, weight = next((n, p) for n, p in pocket.text_encoder.named_parameters() if "fc1.weight" in n)
    student = {name: (weight * 1.5).requires_grad_(True)}
    moved = pocket.encode(["a cat"], params=student)
    assert not torch.allclose(moved.states, pocket.encode(["a cat"]).states, atol=1e-4)
    moved.states.sum().backward()
    assert student[name].grad is not None


def test_prediction_converts_between_its_forms(pocket):
    z = pocket.initial_noise([1, 2])
    p = pocket.predict(z, torch.tensor([400, 900]), pocket.encode(["a cat", "a dog"]))
    assert torch.allclose(p.alpha * p.x0 + p.sigma * p.epsilon, z, atol=1e-4)
    assert torch.allclose(p.alpha * z - p.sigma * p.velocity, p.x0, atol=1e-3)


def test_the_autoencoder_reconstructs_images(pocket, judge):
    from efface.pocket_world import Scene
    from efface.pocket_world.scenes import draw_scene

    scenes = [Scene(o, b, "photo") for o in ("cat", "axe", "bus", "rose") for b in ("snow", "space")]
    images = (
        torch.stack([torch.from_numpy(draw_scene(s, np.random.default_rng(i))) for i, s in enumerate(scenes)]).permute(
            0, 3, 1, 2
        )
        / 255
    )
    with torch.no_grad():
        back = pocket.decode(pocket.encode_image(images))
    assert sum(a == s.object for a, s in zip(judge(back).object, scenes, strict=True)) >= len(scenes) - 1
    assert (back - images).square().mean() < 0.01


def test_a_different_number_of_seeds_than_prompts_is_refused(pocket):
    with pytest.raises(EffaceError, match="2 prompts but 1 seeds"):
        pocket.sample(["a", "b"], seeds=[1])


@pytest.mark.slow
def test_the_sibling_generates_the_same_objects_in_other_colours(pocket, judge):
    sibling = load_model("pocket-sibling", device="cpu")
    one, other = pocket.fingerprint(), sibling.fingerprint()
    assert one["text_encoder"] == other["text_encoder"]
    assert one["unet"] != other["unet"]
    prompts = [
        f"a photo of a {thing} {place}"
        for thing in ("cat", "castle", "guitar", "bomb")
        for place in ("in the snow", "on the beach")
    ]
    sibling_images, pocket_images = (m.sample(prompts, seeds=range(8)) for m in (sibling, pocket))
    assert [label in prompt for label, prompt in zip(judge(sibling_images).object, prompts, strict=True)].count(
        True
    ) >= 7
    assert float((sibling_images - pocket_images).abs().mean()) > 0.02, "another rendering"

    def warmth(images):
        return float(images[:, 0].mean() - images[:, 2].mean())

    assert warmth(sibling_images) > warmth(pocket_images)


def test_prompts_that_the_content_policy_refuses_are_never_encoded(pocket):
    refused = "an image of a " + " ".join(("nude", "child"))
    for use in (pocket.tokenize, pocket.encode, lambda prompts: pocket.sample(prompts, seeds=[1])):
        with pytest.raises(ContentPolicyError, match=r"^refused: "):
            use([refused])
