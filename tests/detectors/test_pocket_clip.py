"""Pocket's CLIP score on renderings with known captions."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from efface.core.errors import CorruptArtifactError
from efface.detectors.pocket_clip import PocketClipScore, load_clip_score
from efface.models.model_ref import bundled_folder
from efface.pocket_world import Scene, caption, load_world
from efface.pocket_world.scenes import draw_scene

WORLD = load_world()


@pytest.fixture(scope="module")
def clip() -> PocketClipScore:
    return load_clip_score()


def captioned(n: int, seed: int) -> tuple[torch.Tensor, list[str], list[Scene]]:
    """Renderings of n distinct objects, each with a caption that names its object."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(list(WORLD.object_classes))[:n]
    backgrounds, styles = list(WORLD.backgrounds), list(WORLD.styles)
    scenes = [Scene(str(name), backgrounds[int(rng.integers(6))], styles[int(rng.integers(6))]) for name in names]
    images = torch.from_numpy(np.stack([draw_scene(scene, rng) for scene in scenes])).permute(0, 3, 1, 2).float() / 255
    return images, [caption(WORLD, scene, rng, kind="name", place_probability=1.0) for scene in scenes], scenes


def test_own_captions_score_far_above_other_captions(clip):
    images, prompts, _ = captioned(32, 0)
    right, wrong = clip(images, prompts), clip(images, prompts[1:] + prompts[:1])
    assert right.shape == (32,)
    assert right.mean() > 60
    assert wrong.mean() < right.mean() - 40
    assert (right > wrong).float().mean() > 0.95


def test_an_image_retrieves_its_caption_among_32(clip):
    recalls = []
    for seed in range(4):
        images, prompts, _ = captioned(32, seed)
        similarity = clip.image_features(images) @ clip.text_features(prompts).T
        recalls.append((similarity.argmax(1) == torch.arange(32)).float().mean())
    assert torch.stack(recalls).mean() > 0.7


def test_captions_of_another_object_in_the_same_scene_score_lower(clip):
    images, _, scenes = captioned(32, 5)
    rng = np.random.default_rng(0)
    swapped = [
        Scene(other.object, own.background, own.style)
        for own, other in zip(scenes, scenes[1:] + scenes[:1], strict=True)
    ]
    right = [caption(WORLD, scene, rng, kind="name", place_probability=1.0) for scene in scenes]
    wrong = [caption(WORLD, scene, rng, kind="name", place_probability=1.0) for scene in swapped]
    assert (clip(images, right) > clip(images, wrong)).float().mean() > 0.9


def test_noise_scores_low(clip):
    images, prompts, _ = captioned(32, 1)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    assert clip(noise, prompts).mean() < clip(images, prompts).mean() / 2


def test_scores_are_bounded_and_do_not_depend_on_the_batch(clip):
    images, prompts, _ = captioned(8, 2)
    every = clip(images, prompts)
    assert bool(((every >= 0) & (every <= 100)).all())
    alone = torch.cat([clip(images[i : i + 1], prompts[i : i + 1]) for i in range(8)])
    assert torch.allclose(every, alone, atol=1e-3)
    assert torch.allclose(clip(images, [prompts[0]] * 8)[0], every[0], atol=1e-3)
    assert clip(images[:0], []).shape == (0,)
    with pytest.raises(ValueError, match="8 images for 7"):
        clip(images, prompts[1:])
    with pytest.raises(ValueError, match="64, 64"):
        clip(images[..., :32], prompts)


def test_the_version_depends_on_the_weights(clip, tmp_path):
    assert clip.detector.id == "pocket-clip"
    assert len(clip.detector.version) == 12
    for part in ("clip", "text_encoder", "tokenizer"):
        shutil.copytree(bundled_folder("pocket") / part, tmp_path / part)
    assert PocketClipScore.load(tmp_path).detector == clip.detector
    path = tmp_path / "clip" / "model.safetensors"
    state = load_file(path)
    save_file(state | {"image_projection.weight": state["image_projection.weight"] * 2}, path)
    assert PocketClipScore.load(tmp_path).detector != clip.detector
    save_file({name: tensor for name, tensor in state.items() if name != "text_projection.weight"}, path)
    with pytest.raises(CorruptArtifactError, match="text_projection"):
        PocketClipScore.load(tmp_path)


def test_scores_do_not_depend_on_edits_of_the_model(clip, pocket):
    images, prompts, _ = captioned(4, 3)
    before = clip(images, prompts)
    with torch.no_grad():
        saved = {name: p.clone() for name, p in pocket.text_encoder.named_parameters()}
        try:
            for p in pocket.text_encoder.parameters():
                p.zero_()
            assert torch.equal(clip(images, prompts), before)
            assert torch.equal(load_clip_score()(images, prompts), before)
        finally:
            for name, p in pocket.text_encoder.named_parameters():
                p.copy_(saved[name])
