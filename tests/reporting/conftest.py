from __future__ import annotations

from pathlib import Path

import pytest
from artifact_folder import attack, evaluate, saved_erasure


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An erasure without evidence."""
    saved_erasure(tmp_path / "weapon esd")
    return tmp_path / "weapon esd"


@pytest.fixture
def artifact(bare: Path) -> Path:
    """An erasure with an evaluation and an attack."""
    evaluate(bare)
    attack(bare)
    return bare
