from __future__ import annotations

import os

import pytest
import torch

from efface.detectors.judge import Judge, load_judge
from efface.models.load import load_model
from efface.models.unet import UNetModel


@pytest.fixture(scope="session", autouse=True)
def _quiet(tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(0)
    os.environ["EFFACE_CACHE"] = str(tmp_path_factory.getbasetemp() / "pictures")


@pytest.fixture(scope="session")
def pocket() -> UNetModel:
    return load_model("pocket", device="cpu")


@pytest.fixture(scope="session")
def judge() -> Judge:
    return load_judge()
