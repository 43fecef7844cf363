from __future__ import annotations

import os
from collections.abc import Iterator

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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As in processes that share work out, so that bits can be compared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
