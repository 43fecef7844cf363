from __future__ import annotations

import pytest

from efface.benchmarks.benchmark import Benchmark, Sampler
from efface.benchmarks.fid_evaluation import distance
from efface.benchmarks.image_cache import PictureCache
from efface.benchmarks.image_generation import Painter
from efface.core.errors import EffaceError
from efface.models.stable_diffusion import UNetModel


def test_fid_of_the_model_beside_its_own_with_other_seeds(pocket: UNetModel) -> None:
    benchmark = Benchmark.load("pocket-weapon")
    painter = Painter(pocket, Sampler(steps=2), PictureCache())
    before, after = distance(benchmark, painter, None, pictures=24, least=24)
    assert (before.metric, after.metric, after.group) == ("fid_before", "fid", "other")
    assert before.value == after.value, "nothing was erased"
    assert before.value is not None
    assert before.value > 0, "other seeds"
    assert after.n == 24
    with pytest.raises(EffaceError, match="from 2000 pictures on, not 24"):
        distance(benchmark, painter, None, pictures=24)
