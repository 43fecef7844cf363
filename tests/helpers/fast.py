"""Parameters of which the first run in every run of the tests, and all in ``make effect``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(fast: Iterable[Any], values: Iterable[Any]) -> list[Any]:
    """Returns the values for ``parametrize``, with the marker ``slow`` on all that are not among ``fast``.

    Raises:
        ValueError: a fast value is not among the values.
    """
    chosen, every = list(fast), list(values)
    if missing := [value for value in chosen if value not in every]:
        raise ValueError(f"{missing} are not among {every}")
    return [value if value in chosen else pytest.param(value, marks=pytest.mark.slow) for value in every]
