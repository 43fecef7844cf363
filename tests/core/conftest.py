from __future__ import annotations

from pathlib import Path

import pytest
from helpers.example_erasure import make_erasure


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The folder of a saved erasure."""
    make_erasure().save(tmp_path / "e", "# Card\n", {"log/losses.json": b"[]"})
    return tmp_path / "e"
