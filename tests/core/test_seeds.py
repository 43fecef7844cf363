"""Seeds: pinned values, independence of labels, and lists of seeds as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efface.core.errors import EffaceError
from efface.core.seeds import derive_seed, format_seeds, parse_seeds


def test_derived_seeds_are_pinned() -> None:
    """A change here invalidates every published seed."""
    assert derive_seed(0) == 2332733240138367524
    assert derive_seed(0, "evaluate", 3) == 4959581149352784663


LABELS = st.lists(st.integers() | st.text(st.characters(codec="utf-8")))


@given(st.integers(), LABELS, LABELS)
def test_seeds_differ_where_labels_differ(root: int, one: list[int | str], two: list[int | str]) -> None:
    assert 0 <= derive_seed(root, *one) < 2**63
    assert (derive_seed(root, *one) == derive_seed(root, *two)) == (one == two)


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ((), ""),
        ((7,), "7"),
        ((*range(20000, 20144), 20200), "20000-20143,20200"),
        ((3, 2, 1), "3,2,1"),
        ((5, 5, 6), "5,5-6"),
        ((-2, -1, 0), "-2-0"),
        ((-3, -2), "-3--2"),
    ],
)
def test_lists_of_seeds_as_text(seeds: tuple[int, ...], text: str) -> None:
    assert format_seeds(seeds) == text
    assert parse_seeds(text) == seeds


@given(st.lists(st.integers(-5, 5) | st.integers()))
def test_lists_of_seeds_keep_order_and_repetitions(seeds: list[int]) -> None:
    assert parse_seeds(format_seeds(seeds)) == tuple(seeds)


@pytest.mark.parametrize("text", ["a", "1,", "1-", "3-1", "1 - 2", "1.5", "1--"])
def test_text_that_lists_no_seeds_is_refused(text: str) -> None:
    with pytest.raises(EffaceError, match="write ranges such as"):
        parse_seeds(text)
