"""Membership inference: can an attacker tell forgotten training images from images that were never trained on?

The attacker ranks images by the model's entropy (low: member) or by its confidence in the right class (high: member).
The area under the ROC curve is 0.5 where he cannot tell, and 1 where he always can; far below 0.5 he can tell by the
opposite sign, as where an erasure makes the training images less certain than others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from efface.ops.classifiers.predictions import Predictions


def membership_auc(seen: Predictions, unseen: Predictions) -> dict[str, float]:
    """Returns the area under the ROC curve by ``entropy`` and ``confidence``.

    Args:
        seen: predictions on training images of the concept.
        unseen: predictions on other images of it.
    """
    return {
        "entropy": _auc(-seen.entropy.numpy(), -unseen.entropy.numpy()),
        "confidence": _auc(seen.confidence.numpy(), unseen.confidence.numpy()),
    }


def _auc(members: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Returns the share of pairs in which the member ranks higher (Mann-Whitney); ties count half."""
    ranks = rankdata(np.concatenate([members, others]))
    m, n = len(members), len(others)
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
