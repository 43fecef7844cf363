"""Configurations: choice of the preset."""

from __future__ import annotations

from efface.core.config import resolve_preset


def test_the_preset_of_the_model_is_the_default() -> None:
    presets = ("paper", "pocket", "demo")
    assert resolve_preset(presets, None, "pocket") == "pocket"
    assert resolve_preset(presets, None, "sd15") == "paper"
    assert resolve_preset(presets, "demo", "pocket") == "demo"
