"""Measures of sparse autoencoders on attributes of the world: absorption, targeted perturbation, spurious correlation.

SAEBench (Karvonen et al. 2025, arXiv 2503.09532) asks for first letters, professions and sexes; here an attribute is
the kind of an object (weapon, animal, ...) or the relation that a sentence states (use, material, ...). All measures
read states with labels, and ablate features by subtracting their decoder rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from efface.models.autoencoder import Autoencoder

MAX_SPLIT, MIN_GAIN = 5, 0.03
"""Largest number of features that share an attribute, and the gain in F1 for which another one is added."""
MIN_COSINE, MIN_SHARE = 0.025, 0.4
"""A feature absorbs an attribute if its decoder row points along the probe, and by this share of the projection."""
MIN_LOST = 0.02
"""Least accuracy that a spurious correlation must cost."""


@dataclass(frozen=True)
class Probe:
    """A linear classifier of states: ``states @ weight + bias`` above 0 means that the attribute is there."""

    weight: Tensor
    bias: float

    @classmethod
    def fit(cls, states: Tensor, labels: Tensor) -> Probe:
        """Fits logistic regression."""
        fitted = LogisticRegression(max_iter=1000, class_weight="balanced").fit(states.numpy(), labels.numpy())
        return cls(torch.tensor(fitted.coef_[0]).float(), float(fitted.intercept_[0]))

    def predict(self, states: Tensor) -> Tensor:
        """Returns which states have the attribute."""
        return states @ self.weight + self.bias > 0

    def accuracy(self, states: Tensor, labels: Tensor) -> float:
        """Returns the mean of the accuracies on states with and without the attribute."""
        right = (self.predict(states) == labels.bool()).float()
        return float((right[labels.bool()].mean() + right[~labels.bool()].mean()) / 2)


def ablated(item: Autoencoder, states: Tensor, features: Sequence[int]) -> Tensor:
    """Returns states without features; the reconstruction's error stays."""
    _, scale = item.normalized(states)
    chosen = list(features)
    return states - scale * (item.encode(states)[:, chosen] @ item.decoder[chosen])


def ranked_features(item: Autoencoder, states: Tensor, labels: Tensor, probe: Probe) -> list[int]:
    """Returns features by their effect on a probe: difference of the mean activations times decoder row on weight."""
    acts, inside = item.encode(states), labels.bool()
    effect = (acts[inside].mean(0) - acts[~inside].mean(0)) * (item.decoder @ probe.weight)
    return effect.argsort(descending=True).tolist()


def targeted_perturbation(
    item: Autoencoder, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], counts: Sequence[int]
) -> dict[int, float]:
    """Returns TPP by number of features: how much more ablation harms an attribute's own probe than the others.

    Args:
        item: the autoencoder.
        train: states ``(N, D)`` and the number of each one's attribute ``(N,)``.
        test: the same, of other texts.
        counts: numbers of features to ablate.
    """
    numbers = train[1].unique().tolist()
    probes = {i: Probe.fit(train[0], train[1] == i) for i in numbers}
    before = {i: probes[i].accuracy(test[0], test[1] == i) for i in numbers}
    ranked = {i: ranked_features(item, train[0], train[1] == i, probes[i]) for i in numbers}

    def drops(count: int) -> float:
        own: list[float] = []
        other: list[float] = []
        for i in numbers:
            states = ablated(item, test[0], ranked[i][:count])
            for j in numbers:
                drop = before[j] - probes[j].accuracy(states, test[1] == j)
                (own if i == j else other).append(drop)
        return float(np.mean(own) - np.mean(other))

    return {count: drops(count) for count in counts}


def spurious_correlation_removal(
    item: Autoencoder, biased: tuple[Tensor, Tensor], balanced: tuple[Tensor, Tensor, Tensor],
    test: tuple[Tensor, Tensor], counts: Sequence[int],
) -> dict[int, float]:  # fmt: skip
    """Returns SCR by number of features: the share of the lost accuracy that a biased probe regains without them.

    Args:
        item: the autoencoder.
        biased: states and labels of an attribute with which another one always comes along.
        balanced: states, labels of the attribute and labels of the other one, without a correlation.
        test: states and labels of the attribute, without a correlation.
        counts: numbers of the other attribute's features to ablate.

    Returns:
        The shares; none if the biased probe loses less than `MIN_LOST`, so that nothing is to be regained.
    """
    states, wanted, spurious = balanced
    probe, oracle = Probe.fit(*biased), Probe.fit(states, wanted).accuracy(*test)
    base = probe.accuracy(*test)
    if oracle - base < MIN_LOST:
        return {}
    ranked = ranked_features(item, states, spurious, Probe.fit(states, spurious))

    def regained(count: int) -> float:
        return (probe.accuracy(ablated(item, test[0], ranked[:count]), test[1]) - base) / (oracle - base)

    return {count: regained(count) for count in counts}


def absorption(
    item: Autoencoder, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> tuple[float | None, int]:
    """Returns the absorption rate of one attribute, and the number of features that it is split into.

    Chanin et al. 2024 (arXiv 2409.14507): of the states that a probe of the states finds, the share in which none of
    the attribute's own features is active while one other feature carries it along the probe's direction.

    Args:
        item: the autoencoder.
        train: states ``(N, D)`` and labels of the attribute ``(N,)``.
        test: the same, of other texts.
    """
    probe = Probe.fit(*train)
    own = _own_features(item, *train)
    found = test[0][test[1].bool() & probe.predict(test[0])]
    if not len(found):
        return None, len(own)
    acts = item.encode(found)
    direction = probe.weight / probe.weight.norm()
    carried = acts * (item.decoder @ direction)
    silent = (acts[:, own] <= 0).all(1)
    others = carried.clone()
    others[:, own] = 0
    strongest, place = others.max(1)
    cosines = torch.nn.functional.cosine_similarity(item.decoder, direction[None], dim=1)
    total = carried.clamp(min=0).sum(1).clamp(min=1e-8)
    absorbed = silent & (cosines[place] > MIN_COSINE) & (strongest / total > MIN_SHARE)
    return float(absorbed.float().mean()), len(own)


def _own_features(item: Autoencoder, states: Tensor, labels: Tensor) -> list[int]:
    """Returns the fewest features of which one is active where the attribute is: the next is added if F1 gains."""
    active, inside = item.encode(states) > 0, labels.bool()
    chosen: list[int] = []
    best, covered = 0.0, torch.zeros(len(states), dtype=torch.bool)
    for _ in range(MAX_SPLIT):
        joined = active | covered[:, None]
        hits = (joined & inside[:, None]).sum(0).float()
        f1 = 2 * hits / (joined.sum(0) + inside.sum()).clamp(min=1)
        top = int(f1.argmax())
        if float(f1[top]) < best + MIN_GAIN and chosen:
            break
        chosen, best, covered = [*chosen, top], float(f1[top]), joined[:, top]
    return chosen
