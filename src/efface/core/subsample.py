"""Deterministic subsampling of a sequence."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice, zip_longest
from typing import TypeVar

T = TypeVar("T")


def evenly_spaced(items: Sequence[T], limit: int | None) -> list[T]:
    """Returns at most ``limit`` of the items in their order; the choice is the same in every call.

    The choice is random with a fixed seed. Taking every n-th item fails for periodic items: every 24th item of four
    seeds by six styles has the same style.
    """
    if limit is None or limit >= len(items):
        return list(items)
    return [items[i] for i in sorted(random.Random(0).sample(range(len(items)), limit))]


def spread(groups: Sequence[Sequence[str]], limit: int) -> list[str]:
    """Returns at most ``limit`` distinct texts, which the groups contribute in turns; the choice is always the same."""
    distinct = dict.fromkeys(text for group in groups for text in group)
    if limit >= len(distinct):
        return list(distinct)
    shuffled = [random.Random(0).sample(group, len(group)) for group in groups]
    in_turns = dict.fromkeys(text for texts in zip_longest(*shuffled) for text in texts if text is not None)
    chosen = set(islice(in_turns, limit))
    return [text for text in distinct if text in chosen]
