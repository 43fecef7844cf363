"""The forget loss of FAMR: cross-entropy with a target distribution that knows nothing of the class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from efface.core.errors import EffaceError

TARGETS = ("uniform", "others")


def target_distribution(kind: str, num_classes: int, forgotten: Sequence[int]) -> Tensor:
    """Returns the target, ``(C,)`` float64.

    Args:
        kind: ``uniform`` over all classes (the paper's), or ``others``: uniform over the classes that are kept.
        num_classes: C.
        forgotten: indices of the forgotten classes, which ``others`` leaves out.

    Raises:
        EffaceError: another kind, or no class is left.
    """
    if kind not in TARGETS:
        raise EffaceError(f"target {kind!r} is unknown: set target to {' or '.join(TARGETS)}")
    target = torch.ones(num_classes, dtype=torch.float64)
    if kind == "others":
        target[list(forgotten)] = 0
    if not bool(target.any()):
        raise EffaceError("every class is to be forgotten, so none is left to predict: name fewer")
    return target / target.sum()


def forget_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Returns the mean cross-entropy of the target ``(C,)`` with the predictions of ``(B, C)`` logits."""
    return -(logits.log_softmax(-1) * target.to(logits)).sum(-1).mean()


def smallest_loss(target: Tensor) -> float:
    """Returns the entropy of the target, which no forget loss is below; ``log C`` for the uniform one."""
    return float(-torch.special.xlogy(target, target).sum())


def entropy(logits: Tensor) -> Tensor:
    """Returns the entropy of the predictions in nats, ``(B,)``."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def largest_entropy(num_classes: int) -> float:
    """Returns ``log C``, the entropy of the uniform distribution."""
    return math.log(num_classes)
