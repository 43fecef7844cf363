"""Subsampling."""

from __future__ import annotations

from efface.core.subsample import evenly_spaced, spread


def test_periodic_items_are_not_aliased() -> None:
    styles = [i // 4 % 6 for i in range(144)]
    assert len(set(evenly_spaced(styles, 12))) >= 4
    assert len({styles[i] for i in range(0, 144, 24)}) == 1, "every 24th item has the same style"


def test_keeps_the_order_and_the_limit() -> None:
    few = evenly_spaced(list(range(100)), 7)
    assert len(few) == 7
    assert few == sorted(set(few)) == evenly_spaced(list(range(100)), 7)
    assert evenly_spaced([1, 2], 5) == evenly_spaced([1, 2], None) == [1, 2]


def test_groups_contribute_in_turns() -> None:
    groups = [[f"a{i}" for i in range(40)], [f"b{i}" for i in range(3)], [f"c{i}" for i in range(40)]]
    few = spread(groups, 13)
    assert [sum(text.startswith(letter) for text in few) for letter in "abc"] == [5, 3, 5]
    assert few == [text for group in groups for text in group if text in few]
    assert spread([["a", "b"], ["b", "c"]], 3) == ["a", "b", "c"]
