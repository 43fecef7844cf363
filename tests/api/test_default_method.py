"""The method that erases if none is named."""

from __future__ import annotations

import pytest
from helpers.tiny import tiny_model

from efface.api.validation import default_method
from efface.core.errors import UnknownNameError
from efface.models.loading import load_model
from efface.models.model_ref import ModelRef


@pytest.mark.parametrize(
    ("model", "method"),
    [("pocket", "esd"), ("pocket-flow", "esd"), ("pocket-lm", "elm"), ("pocket-classifier", "famr")],
)
def test_it_fits_the_kind_of_a_bundled_model(model: str, method: str) -> None:
    assert default_method(model) == default_method(ModelRef(model)) == method


def test_it_fits_models_in_memory() -> None:
    assert default_method(tiny_model()) == default_method(tiny_model().pipe) == "esd"
    assert default_method(load_model("pocket-classifier")) == "famr"


def test_no_model_named_is_pocket() -> None:
    assert default_method(ModelRef(None)) == "esd"


def test_an_unknown_model_is_reported_before_any_work() -> None:
    with pytest.raises(UnknownNameError, match="nope"):
        default_method("nope")
