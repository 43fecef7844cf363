"""Pocket's judge on renderings of known scenes, and on destroyed images."""

from __future__ import annotations

import numpy as np
import torch

from efface.pocket_world import NOTHING, Scene, load_world
from efface.pocket_world.scenes import draw_scene

WORLD = load_world()


def renderings(n: int, seed: int) -> tuple[torch.Tensor, list[Scene]]:
    rng = np.random.default_rng(seed)
    every = WORLD.scenes(heldout=True) + WORLD.scenes(heldout=False)
    scenes = [every[int(rng.integers(len(every)))] for _ in range(n)]
    images = np.stack([draw_scene(s, rng) for s in scenes])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, scenes


def test_labels_of_fresh_renderings_are_right(judge):
    images, scenes = renderings(600, 99)
    judgement = judge(images)
    for head, min_accuracy in (("object", 0.97), ("background", 0.96), ("style", 0.98)):
        accuracy = np.mean([a == getattr(s, head) for a, s in zip(getattr(judgement, head), scenes, strict=True)])
        assert accuracy >= min_accuracy, (head, accuracy)


def test_scenes_without_an_object_are_labelled_nothing(judge):
    rng = np.random.default_rng(5)
    scenes = [Scene(NOTHING, b, s) for b in WORLD.backgrounds for s in WORLD.styles]
    images = torch.from_numpy(np.stack([draw_scene(s, rng) for s in scenes])).permute(0, 3, 1, 2).float() / 255
    assert np.mean([o == NOTHING for o in judge(images).object]) >= 0.9


def test_the_judge_abstains_on_destroyed_images(judge):
    images, _ = renderings(120, 7)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(images.shape, generator=generator)
    smear = torch.nn.functional.interpolate(
        torch.nn.functional.interpolate(images, size=4, mode="area"), size=64, mode="bilinear"
    )
    blend = (images + images.flip(0)) / 2
    for name, destroyed, min_rate in (("noise", noise, 0.95), ("smear", smear, 0.8), ("blend", blend, 0.6)):
        labels = judge(destroyed).object
        assert np.mean([o in ("cannot tell", NOTHING) for o in labels]) >= min_rate, name


def test_the_judge_declares_id_thresholds_and_errors(judge):
    assert judge.id.startswith("pocket-judge@")
    assert all(0 < t < 1 for t in judge.thresholds.values())
    assert judge.measured["n"] >= 2000
    assert judge.measured["clean"]["object"] > judge.measured["noisy"]["object"] - 0.02
