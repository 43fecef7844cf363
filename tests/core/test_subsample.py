from __future__ import annotations

from efface.core.subsample import spread


def test_does_not_follow_the_rounds() -> None:
    styles = [i // 4 % 6 for i in range(144)]
    assert len(set(spread(styles, 12))) >= 4
    assert len({styles[i] for i in range(0, 144, 24)}) == 1, "which every 24th does"


def test_keeps_order_and_number() -> None:
    few = spread(list(range(100)), 7)
    assert len(few) == 7
    assert few == sorted(set(few)) == spread(list(range(100)), 7)
    assert spread([1, 2], 5) == spread([1, 2], None) == [1, 2]
