"""Projections on the Fantope."""

from __future__ import annotations

from typing import Any

import torch
from helpers.labelled_vectors import DOUBLE
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.ops.linear_erasure.fantope import FantopePoint, fantope_threshold

seeds = st.integers(0, 2**31)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12), st.data())
def test_the_fantopes_threshold_is_exact(values: list[float], draw: Any) -> None:
    k = draw.draw(st.integers(1, len(values)))
    numbers = torch.tensor(values, dtype=DOUBLE)
    tau = fantope_threshold(numbers, k)
    assert abs(float((numbers - tau).clamp(0, 1).sum()) - k) < 1e-9


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 4), st.integers(1, 2))
def test_a_step_on_few_directions_equals_the_dense_step(seed: int, k: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    eye, width = torch.eye(10, dtype=DOUBLE), 10
    start, _ = torch.linalg.qr(torch.randn(width, k, generator=generator, dtype=DOUBLE))
    point = FantopePoint(start, torch.ones(k, dtype=DOUBLE))
    for _ in range(4):
        a, b = (0.3 * torch.randn(width, columns, generator=generator, dtype=DOUBLE) for _ in range(2))
        dense = FantopePoint.nearest(point.times(eye) + (a @ b.T + b @ a.T) / 2, k)
        point = point.step(a, b, k)
        assert torch.allclose(point.times(eye), dense.times(eye), atol=1e-9)
        assert abs(float(point.times(eye).trace()) - k) < 1e-9
