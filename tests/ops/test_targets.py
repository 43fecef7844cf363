"""The targets in closed form."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from efface.ops import targets

numbers = st.floats(-4, 4, allow_nan=False, width=32)
C, ZERO, A, S = torch.randn(4, 2, 3, 2, 2, generator=torch.Generator().manual_seed(3))


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@given(numbers, numbers, numbers)
def test_negative_guidance_by_hand(c, zero, eta):
    made = targets.neg_guidance(torch.tensor(zero), torch.tensor(c), torch.tensor(zero), eta)
    assert float(made) == pytest.approx(zero - eta * (c - zero), abs=1e-4)


@given(st.floats(0, 5))
def test_the_released_eta_is_larger_by_one(eta):
    close(targets.neg_guidance(C, C, ZERO, eta + 1), targets.neg_guidance(ZERO, C, ZERO, eta))
    close(targets.neg_guidance(C, C, ZERO, 1), ZERO)


def test_limits():
    close(targets.neg_guidance(ZERO, C, ZERO, 0), targets.uncond(ZERO))
    close(targets.guided(C, ZERO, 1), C)
    close(targets.guided(C, ZERO, 0), ZERO)
    close(ZERO + 2.5 * targets.guidance_term(C, ZERO), targets.guided(C, ZERO, 2.5))
    close(targets.neg_guidance(ZERO, C, ZERO, 2), targets.guided(C, ZERO, -2))
    close(targets.negative_prompt(C, ZERO, ZERO, 3), targets.guided(C, ZERO, 3))
    close(targets.negative_prompt(C, ZERO, A, 3), A + 3 * (C - A))


def test_constants_carry_no_gradient():
    leaf = A.clone().requires_grad_()
    assert not any(
        made.requires_grad for made in (targets.anchor(leaf * 2), targets.uncond(leaf * 2), targets.noise(leaf * 2))
    )
    close(targets.anchor(leaf * 2), 2 * A)


def test_velocity_points_along_the_circle():
    x0, eps, angle = torch.tensor(2.0), torch.tensor(-1.0), torch.tensor(0.3)
    h = 1e-3
    z = [torch.cos(angle + d) * x0 + torch.sin(angle + d) * eps for d in (-h, h)]
    assert float(targets.velocity(x0, eps, angle.cos(), angle.sin())) == pytest.approx(
        float((z[1] - z[0]) / (2 * h)), abs=1e-3
    )


def test_ace():
    retained, weights = torch.stack([A, S]), torch.tensor([0.5, 2.0])
    corr = targets.correction(retained, ZERO, weights)
    close(corr, 0.5 * (A - ZERO) + 2 * (S - ZERO))
    close(targets.uncond_plus(ZERO, C, corr, 3, 0), targets.guided(C, ZERO, 3))
    close(targets.uncond_plus(ZERO, C, corr, 3, 2), ZERO + 3 * (C - ZERO) - 2 * corr)


def test_sld_by_hand():
    e_c, e_0, e_s = torch.tensor([0.0, 0.5, 0.0, 0.3]), torch.zeros(4), torch.tensor([0.01, 0.0, 2.0, 0.3])
    # far below 1: scaled; above the threshold: none; large: clamped; equal: below the threshold, but of size 0
    made = targets.sld_guidance(e_c, e_0, e_s, scale=10, threshold=0.2)
    close(made, torch.tensor([0.1 * 0.01, 0.0, 1.0 * 2.0, 0.0]))
    printed = targets.sld_guidance(e_c, e_0, e_s, scale=10, threshold=0.2, limit="printed")
    close(printed, torch.tensor([1.0 * 0.01, 0.0, 20.0 * 2.0, 0.3]))
