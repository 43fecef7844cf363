"""Which preset is taken."""

from __future__ import annotations

from efface.core.config import preset_for


def test_the_model_s_own_preset_is_taken_where_none_is_asked_for() -> None:
    presets = ("paper", "pocket", "demo")
    assert preset_for(presets, None, "pocket") == "pocket"
    assert preset_for(presets, None, "sd15") == "paper"
    assert preset_for(presets, "demo", "pocket") == "demo"
