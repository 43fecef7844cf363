"""Gaussian blur of latents."""

from __future__ import annotations

import pytest
import torch

from efface.core.errors import EffaceError
from efface.ops.training.blur import gaussian_blur


def test_it_keeps_the_mean_and_spreads_a_point() -> None:
    z = torch.zeros(1, 2, 7, 7)
    z[0, 1, 3, 3] = 1.0
    blurred = gaussian_blur(z, 3)
    assert blurred.sum() == pytest.approx(1.0)
    assert not blurred[0, 0].any()
    ratio = float(blurred[0, 1, 3, 2] / blurred[0, 1, 3, 3])
    assert ratio == pytest.approx(float(torch.exp(torch.tensor(-0.5 / 0.8**2))))
    assert gaussian_blur(z, 0) is z


@pytest.mark.parametrize("size", [2, -1, 15])
def test_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(EffaceError, match="set an odd number"):
        gaussian_blur(torch.zeros(1, 1, 7, 7), size)
