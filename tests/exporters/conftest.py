from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny import tiny_model

from efface.models.loading import load_model


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """A tiny model in diffusers layout."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    tiny_model().pipe.save_pretrained(folder)
    return folder


@pytest.fixture
def tiny(base):
    return load_model(base, device="cpu")
