from __future__ import annotations

import pytest
from helpers.tiny import tiny_model

from efface.models.unet import UNetModel


@pytest.fixture
def tiny() -> UNetModel:
    return tiny_model()
