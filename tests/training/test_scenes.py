"""Scenes: seeded drawing, and styles that keep the object visible."""

from __future__ import annotations

import numpy as np
import pytest

from efface.pocket_world import NOTHING, Scene, load_world
from efface.pocket_world.scenes import draw_scene


def test_drawing_is_seeded_and_varies():
    scene = Scene("cat", "snow", "photo")
    first = draw_scene(scene, np.random.default_rng(1))
    again = draw_scene(scene, np.random.default_rng(1))
    other = draw_scene(scene, np.random.default_rng(2))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("style", list(load_world().styles))
def test_every_style_changes_the_image_and_keeps_the_object(style):
    rng = np.random.default_rng
    plain = draw_scene(Scene("cat", "beach", "photo"), rng(3))
    styled = draw_scene(Scene("cat", "beach", style), rng(3))
    empty = draw_scene(Scene(NOTHING, "beach", style), rng(3))
    assert (style == "photo") == bool((plain == styled).all())
    assert np.abs(styled.astype(int) - empty.astype(int)).mean() > 5
