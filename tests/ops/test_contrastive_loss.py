"""Contrastive loss of predictions."""

from __future__ import annotations

import torch

from efface.ops.contrastive_loss import contrastive_hinge


def test_contrastive_hinge() -> None:
    preferred, rejected = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    prediction = torch.stack([torch.full((1, 2, 2), 0.2), torch.full((1, 2, 2), 0.9)])
    expected = 3 * (0.81 - 0.01 + 0.05) / 2  # only the second is nearer to the rejected prediction
    torch.testing.assert_close(contrastive_hinge(prediction, preferred, rejected, 3.0, 0.05), torch.tensor(expected))


def test_the_loss_is_zero_beyond_the_margin_and_the_margin_at_equal_distances() -> None:
    preferred, rejected = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    assert float(contrastive_hinge(preferred, preferred, rejected, 1.0, 0.01)) == 0
    torch.testing.assert_close(contrastive_hinge(preferred, preferred, preferred, 1.0, 0.01), torch.tensor(0.01))
