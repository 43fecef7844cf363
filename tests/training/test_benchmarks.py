"""The script that writes pocket's benchmarks reproduces the shipped files."""

from __future__ import annotations

import pytest

from abstract_benchmarks import SENSES
from benchmarks import CONCEPTS, TARGET, render_benchmark


@pytest.mark.parametrize("name", [*CONCEPTS, *SENSES, "pocket-twenty"])
def test_the_shipped_benchmarks_are_reproduced(name: str) -> None:
    assert (TARGET / f"{name}.yaml").read_text(encoding="utf-8") == render_benchmark(name)
