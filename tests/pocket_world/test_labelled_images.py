"""The labelled images of pocket-classifier."""

from __future__ import annotations

import numpy as np

from efface.pocket_world.labelled_images import NUM_OWNERS, PER_CLASS, class_names, labelled_scenes, selection


def test_sets_are_balanced_and_share_no_seed() -> None:
    train, test = labelled_scenes("train"), labelled_scenes("test")
    for split, scenes in (("train", train), ("test", test)):
        counts = np.bincount([scene.label for scene in scenes], minlength=len(class_names()))
        assert set(counts) == {PER_CLASS[split]}
    assert not {scene.seed for scene in train} & {scene.seed for scene in test}
    assert {scene.owner for scene in train} == set(range(NUM_OWNERS))


def test_an_image_is_drawn_alike_every_time() -> None:
    scene = labelled_scenes("train")[3]
    assert (scene.draw() == scene.draw()).all()
    assert scene.draw().shape == (64, 64, 3)
    assert (scene.draw() != labelled_scenes("test")[3].draw()).any()


def test_styles_and_owners_select_images() -> None:
    scenes = labelled_scenes("train")
    mosaic, owner = selection("style", "mosaic"), selection("samples", "owner 7")
    assert mosaic is not None
    assert owner is not None
    assert {scene.scene.style for scene in scenes if mosaic(scene)} == {"mosaic"}
    assert {scene.owner for scene in scenes if owner(scene)} == {7}
    assert selection("samples", "owner 40") is None
    assert selection("style", "cubism") is None
    assert selection("object", "cat") is None
