"""R-LACE on vectors."""

from __future__ import annotations

import pytest
import torch
from helpers.labelled_vectors import above_majority, vectors_with_labels

from efface.core.errors import EffaceError
from efface.ops.linear_erasure import RlaceEraser


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_rlace_ends_near_the_majority(warm: bool, classes: int) -> None:
    x, y = vectors_with_labels(7, classes, n=1000)
    eraser = RlaceEraser(classes - 1, steps=4000, check_every=500, warm_start=warm, affine=True, seed=1)
    erased = eraser.fit_transform(x, y)
    assert eraser.rank == classes - 1
    assert above_majority(x, y) > 0.2
    assert above_majority(erased, y) < 0.06
    again = RlaceEraser(classes - 1, steps=4000, check_every=500, warm_start=warm, affine=True, seed=1)
    assert torch.equal(again.fit_transform(x, y), erased), "deterministic"


def test_a_warm_start_with_all_directions_ends_at_the_first_check() -> None:
    x, y = vectors_with_labels(2, 3)
    checks: list[int] = []
    RlaceEraser(2, warm_start=True, affine=True, progress=lambda step, _: checks.append(step)).fit(x, y)
    assert checks == [0]


def test_a_rank_of_the_full_width_is_refused() -> None:
    x, y = vectors_with_labels(0, 3)
    with pytest.raises(EffaceError, match="leaves nothing"):
        RlaceEraser(8).fit(x, y)
