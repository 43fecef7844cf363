from __future__ import annotations

import pytest
import torch

from efface.detectors.judge import Judge, load_judge
from efface.models.load import load_model
from efface.models.unet import UNetModel


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def pocket() -> UNetModel:
    return load_model("pocket", device="cpu")


@pytest.fixture(scope="session")
def judge() -> Judge:
    return load_judge()
