"""Pairs with neighbours."""

from __future__ import annotations

import torch

from efface.ops.closed_form.neighbours import with_neighbours
from efface.ops.closed_form.problem import Pairs


def test_neighbours_share_anchor_and_weight_of_their_pair() -> None:
    source, anchor = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0]])
    neighbours = torch.tensor([[1.1, 1.2, 2.1, 2.2]])
    pairs = with_neighbours(Pairs(source, anchor, torch.tensor([1.0, 3.0]), ("cat", "dog")), neighbours)
    assert torch.equal(pairs.source, torch.cat([source, neighbours], 1).double())
    assert pairs.anchor.tolist() == [[10, 20, 10, 10, 20, 20]]
    torch.testing.assert_close(pairs.weight, torch.tensor([1.0, 3, 1, 1, 3, 3], dtype=torch.float64) / 3)
    assert pairs.texts == ("cat", "dog", "cat", "cat", "dog", "dog")
