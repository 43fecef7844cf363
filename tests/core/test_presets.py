from __future__ import annotations

from efface.core.config import preset_for

PRESETS = ("paper", "pocket", "pocket-object", "demo")


def test_the_model_s_own_preset_is_taken_and_that_for_the_concepts_kind_before_it() -> None:
    assert preset_for(PRESETS, None, "pocket") == "pocket"
    assert preset_for(PRESETS, None, "pocket", "object") == "pocket-object"
    assert preset_for(PRESETS, None, "pocket", "domain") == "pocket"
    assert preset_for(PRESETS, None, "sd15", "object") == "paper"
    assert preset_for(PRESETS, "demo", "pocket", "object") == "demo"
