"""Contrastive losses of predictions and of attention."""

from __future__ import annotations

import torch

from efface.ops.contrastive_loss import contrastive_hinge, reverse_contrast


def test_contrastive_hinge() -> None:
    preferred, rejected = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    prediction = torch.stack([torch.full((1, 2, 2), 0.2), torch.full((1, 2, 2), 0.9)])
    expected = 3 * (0.81 - 0.01 + 0.05) / 2  # only the second is nearer to the rejected prediction
    torch.testing.assert_close(contrastive_hinge(prediction, preferred, rejected, 3.0, 0.05), torch.tensor(expected))


def test_the_loss_is_zero_beyond_the_margin_and_the_margin_at_equal_distances() -> None:
    preferred, rejected = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    assert float(contrastive_hinge(preferred, preferred, rejected, 1.0, 0.01)) == 0
    torch.testing.assert_close(contrastive_hinge(preferred, preferred, preferred, 1.0, 0.01), torch.tensor(0.01))


def test_reverse_contrast_is_the_log_probability_of_the_concept() -> None:
    u, s, irrelevant = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]]), torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]])
    expected = (torch.tensor([0.6, 0.8, -0.6]) / 0.5).softmax(0)[0].log()
    torch.testing.assert_close(reverse_contrast(u, s, irrelevant, 0.5), expected)
    nearer = reverse_contrast(s, s, irrelevant, 0.5)
    assert nearer > expected, "the loss falls as the concept moves away from its synonym"
