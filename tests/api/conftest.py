"""Fixtures of the tests of attacks and evaluations: a small benchmark and an erasure of pocket."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.small_benchmark import small_benchmark
from helpers.tiny import erasure_of

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.tensor_conversion import to_blob


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_benchmark(tmp_path_factory.mktemp("benchmark"))


@pytest.fixture
def artifact(pocket: StableDiffusionModel, tmp_path: Path) -> Path:
    """An erasure of weapon that halves a few weights."""
    tensors = {name: to_blob(p * 0.5) for name, p in pocket.parameter_group("cross_kv").parameters.items()}
    erasure = erasure_of(pocket, [Edit("unet", "replace", {name: name for name in tensors})], tensors)
    replace(erasure, spec=replace(erasure.spec, concepts=(Concept("weapon"),))).save(tmp_path / "e")
    return tmp_path / "e"
