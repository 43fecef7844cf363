"""INLP on vectors."""

from __future__ import annotations

import pytest
import torch
from helpers.labelled_vectors import above_majority, vectors_with_labels

from efface.ops.linear_erasure import InlpEraser


@pytest.mark.parametrize("seed", range(5))
def test_inlp_ends_at_the_majority(seed: int) -> None:
    x, y = vectors_with_labels(seed, 2 + seed % 2, n=1500, width=16)
    eraser = InlpEraser(16, seed=seed)
    erased = eraser.fit_transform(x, y)
    assert above_majority(x, y) > 0.2
    assert above_majority(erased, y) < 0.06
    assert eraser.accuracies[-1] <= eraser.majority + 0.01
    assert torch.equal(InlpEraser(16, seed=seed).fit_transform(x, y), erased), "deterministic"
    assert torch.allclose(eraser.transform(erased), erased, atol=1e-10)
