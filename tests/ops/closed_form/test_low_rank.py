"""Composition of low-rank updates."""

from __future__ import annotations

import pytest
import torch

from efface.ops.closed_form import LowRankUpdate


@pytest.mark.parametrize("ranks", [(3, 2), (40, 2), (3, 40), (40, 50)])
def test_a_composition_is_the_product_of_both_in_small_factors(ranks: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (
        LowRankUpdate(*(torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((6, n), (n, 6))))
        for n in ranks
    )
    composed = first.compose(second)
    torch.testing.assert_close(composed.matrix(), first.matrix() @ second.matrix(), rtol=1e-12, atol=1e-11)
    assert composed.rank == sum(min(rank, 6) for rank in ranks)
