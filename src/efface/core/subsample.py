"""A few of many, spread over all of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly_spaced(items: Sequence[T], limit: int | None) -> list[T]:
    """At most ``limit`` of the items, in their order; the same ones each time.

    Every n-th would do, were it not for items that come in rounds: every 24th of four seeds by six styles is always the same style.
    """
    if limit is None or limit >= len(items):
        return list(items)
    return [items[i] for i in sorted(random.Random(0).sample(range(len(items)), limit))]
