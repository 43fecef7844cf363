"""The measures of autoencoders, on states whose attributes are single directions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from efface.models.autoencoder import Autoencoder
from pocket_lm.autoencoder_measures import (
    Probe,
    ablated,
    absorption,
    spurious_correlation_removal,
    targeted_perturbation,
)


def autoencoder(rows: Tensor) -> Autoencoder:
    """Features that read and write the rows; a feature is active where its row's projection exceeds 0.5."""
    zeros = torch.zeros(len(rows))
    return Autoencoder(0, "resid_post", rows.T, zeros, rows, torch.zeros(rows.shape[1]), zeros + 0.5)


def noise(count: int) -> Tensor:
    return 0.05 * torch.randn(count, 8, generator=torch.Generator().manual_seed(0))


EYE = torch.eye(8)
LABELS = torch.arange(120) % 3
STATES = noise(120) + 2 * EYE[LABELS]


def test_a_probe_finds_an_attribute_that_ablation_removes() -> None:
    item = autoencoder(EYE)
    probe = Probe.fit(STATES, LABELS == 0)
    assert probe.accuracy(STATES, LABELS == 0) == 1
    assert probe.accuracy(ablated(item, STATES, [0]), LABELS == 0) == 0.5


def test_tpp_tells_features_of_one_attribute_from_features_of_all() -> None:
    data = (STATES, LABELS)
    mixed = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]
    apart, together = (targeted_perturbation(autoencoder(rows), data, data, [1])[1] for rows in (EYE, mixed))
    assert apart == pytest.approx(0.5, abs=0.01)
    assert together < apart


def test_scr_regains_the_accuracy_that_a_spurious_feature_costs() -> None:
    wanted, other = torch.arange(120) % 2 == 0, torch.arange(120) // 2 % 2 == 0
    states = noise(120) + wanted[:, None] * EYE[0] + 3 * torch.where(other[:, None], EYE[1], EYE[2])
    agree = wanted == other
    regained = spurious_correlation_removal(
        autoencoder(EYE), (states[agree], wanted[agree]), (states, wanted, other), (states, wanted), [2]
    )
    assert regained[2] > 0.9


def test_without_a_lost_accuracy_there_is_no_scr() -> None:
    wanted = LABELS == 0
    data = (STATES, wanted)
    assert spurious_correlation_removal(autoencoder(EYE), data, (STATES, wanted, LABELS == 1), data, [1]) == {}


def test_a_feature_of_one_member_absorbs_the_attribute_of_all() -> None:
    rare = torch.arange(480) % 120 == 0
    states = STATES.repeat(4, 1) + 2 * (rare[:, None] * EYE[3])
    data = (states, LABELS.repeat(4) == 0)
    assert absorption(autoencoder(EYE), data, data) == (0, 1)
    encoder = torch.stack([EYE[0] - EYE[3], EYE[3]], dim=1)  # the first is silent on the rare member
    decoder = torch.stack([EYE[0], (EYE[0] + EYE[3]) / 2**0.5])
    zeros = torch.zeros(2)
    absorbing = Autoencoder(0, "resid_post", encoder, zeros, decoder, torch.zeros(8), zeros + 0.5)
    assert absorption(absorbing, data, data) == (pytest.approx(4 / 160), 1)
