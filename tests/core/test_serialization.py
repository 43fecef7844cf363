"""JSON conversion and hashes: canonical spelling, fixed points, refused values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efface.core.errors import EffaceError
from efface.core.serialization import canonical_json, json_hash, to_jsonable

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


def test_the_hash_is_pinned() -> None:
    """A change here invalidates every cache."""
    assert (
        json_hash({"b": [1, 2.5, None], "a": "é"}) == "d764fee2563da33e3d57334755404e635da33c995824b0adfabc4b6e1af4f608"
    )


@given(JSON)
def test_conversion_is_a_fixed_point_and_hashes_ignore_the_order_of_keys(value: Any) -> None:
    assert to_jsonable(to_jsonable(value)) == to_jsonable(value)
    reordered = dict(reversed(value.items())) if isinstance(value, dict) else value
    assert canonical_json(reordered) == canonical_json(value)


def test_equal_values_have_equal_hashes() -> None:
    assert json_hash({"a": 3.0, "b": (1,)}) == json_hash({"b": [np.int64(1)], "a": np.float32(3)})
    assert len({json_hash(value) for value in (1, True, "1", [1], 1.5, None, 0, False)}) == 8


@pytest.mark.parametrize(
    "value", [float("nan"), {"a": [float("inf")]}, {1: 2}, object(), {"a": {1, 2}}, "\ud800", b"x"]
)
def test_values_that_json_cannot_hold_are_refused(value: object) -> None:
    with pytest.raises(EffaceError):
        json_hash(value)
