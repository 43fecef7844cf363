from __future__ import annotations

from pathlib import Path

import pytest
from helpers.original import write_original
from helpers.tiny import PIPES, tiny_of


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each family in diffusers layout."""
    root = tmp_path_factory.mktemp("models")
    for family, build in PIPES.items():
        build().save_pretrained(root / family)
    return {family: root / family for family in PIPES}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint of each family in one file."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: write_original(tiny_of(family).pipe, root / f"{family}.safetensors") for family in PIPES}
