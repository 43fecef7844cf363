from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny import PIPES


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each family in diffusers layout."""
    root = tmp_path_factory.mktemp("models")
    for family, build in PIPES.items():
        build().save_pretrained(root / family)
    return {family: root / family for family in PIPES}
