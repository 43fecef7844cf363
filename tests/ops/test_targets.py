"""Training targets and guidance by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from efface.ops.targets import classifier_free_guidance, negative_guidance, sld_guidance

numbers = st.floats(-4, 4, allow_nan=False, width=32)
E_C, E_0 = torch.randn(2, 2, 3, 2, 2, generator=torch.Generator().manual_seed(3))


def assert_close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@given(numbers, numbers, numbers)
def test_negative_guidance_by_hand(e_c, e_0, eta):
    target = negative_guidance(torch.tensor(e_0), torch.tensor(e_c), torch.tensor(e_0), eta)
    assert float(target) == pytest.approx(e_0 - eta * (e_c - e_0), abs=1e-4)


@given(st.floats(0, 5))
def test_the_released_eta_is_larger_by_one(eta):
    assert_close(negative_guidance(E_C, E_C, E_0, eta + 1), negative_guidance(E_0, E_C, E_0, eta))


def test_special_scales():
    assert_close(negative_guidance(E_0, E_C, E_0, 0), E_0)
    assert_close(classifier_free_guidance(E_C, E_0, 1), E_C)
    assert_close(classifier_free_guidance(E_C, E_0, 0), E_0)
    assert_close(negative_guidance(E_0, E_C, E_0, 2), classifier_free_guidance(E_C, E_0, -2))


def test_sld_by_hand():
    e_c, e_0, e_s = torch.tensor([0.0, 0.5, 0.0, 0.3]), torch.zeros(4), torch.tensor([0.01, 0.0, 2.0, 0.3])
    # scaled; above the threshold; clamped to 1; no difference
    gamma = sld_guidance(e_c, e_0, e_s, scale=10, threshold=0.2)
    assert_close(gamma, torch.tensor([0.1 * 0.01, 0.0, 1.0 * 2.0, 0.0]))
    printed = sld_guidance(e_c, e_0, e_s, scale=10, threshold=0.2, clamp_mode="printed")
    assert_close(printed, torch.tensor([1.0 * 0.01, 0.0, 20.0 * 2.0, 0.3]))
