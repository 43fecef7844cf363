"""Which preset is taken."""

from __future__ import annotations

from efface.core.config import resolve_preset


def test_the_model_s_own_preset_is_taken_where_none_is_asked_for() -> None:
    presets = ("paper", "pocket", "demo")
    assert resolve_preset(presets, None, "pocket") == "pocket"
    assert resolve_preset(presets, None, "sd15") == "paper"
    assert resolve_preset(presets, "demo", "pocket") == "demo"
