"""Concepts that are none, names that look like lists, and numbers that are not finite, before a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from efface.api.validation import coerce_concepts, validate_erase
from efface.core.concept import Concept
from efface.core.errors import EffaceError


@pytest.mark.parametrize("value", [float("nan"), 3, None, ["cat", 3]])
def test_what_is_no_concept_is_refused(value: Any) -> None:
    with pytest.raises(EffaceError, match="concept"):
        coerce_concepts(value)


def test_a_mapping_is_one_concept_and_not_the_list_of_its_keys() -> None:
    mapping: Any = {"name": "cat", "anchor": "dog"}
    assert coerce_concepts(mapping).concepts == (Concept("cat", anchor="dog"),)
    mapping["colour"] = "red"
    with pytest.raises(EffaceError, match="unknown concept field 'colour'"):
        coerce_concepts(mapping)


def test_a_name_with_commas_is_warned_of(tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match="'weapon, hot dog' is taken as the name of one.*efface erase weapon 'hot dog'"
    ):
        validate_erase([Concept("weapon, hot dog")], out=tmp_path / "e", model="pocket", method="uce")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_settings_are_finite_numbers(value: Any, tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match=r"'ridge' is (nan|inf): give a finite number \(--set ridge=NUMBER\)"):
        validate_erase([Concept("a")], out=tmp_path / "e", model="pocket", method="uce", config={"ridge": value})
