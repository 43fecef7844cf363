"""The advice names settings that every method at hand has."""

from __future__ import annotations

import pytest

from efface.core.registry import METHODS
from efface.core.strength_advice import strength_advice


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("stronger", [True, False])
def test_only_settings_of_the_method_are_named(name, stronger):
    settings = METHODS.setting_names(name)
    words = strength_advice(settings, stronger=stronger).replace(";", "").split()
    assert words[0] in ("raise", "lower", "choose")
    assert set(words) - {"raise", "lower", "or", "choose", "another", "preset", "method"} <= set(settings)


def test_advice_points_in_the_direction_asked_for():
    assert strength_advice(("steps", "learning_rate"), stronger=True) == "raise learning_rate or steps"
    assert strength_advice(("ridge", "erase_scale"), stronger=False) == "raise ridge; lower erase_scale"
    assert strength_advice((), stronger=True) == "choose another preset or method"
