from __future__ import annotations

import pytest

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.fid_evaluation import benchmark_fid
from efface.benchmarks.image_cache import ImageCache
from efface.benchmarks.image_generation import ImageGenerator
from efface.benchmarks.samples import Sampler
from efface.core.errors import EffaceError
from efface.models.stable_diffusion import StableDiffusionModel


def test_without_an_erasure_both_fids_are_equal(pocket: StableDiffusionModel) -> None:
    benchmark = Benchmark.load("pocket-weapon")
    image_generator = ImageGenerator(pocket, Sampler(num_inference_steps=2), ImageCache())
    before, after = benchmark_fid(benchmark, image_generator, None, num_images=24, min_images=24)
    assert (before.metric, after.metric, after.group) == ("fid_before", "fid", "other")
    assert before.value == after.value, "nothing was erased"
    assert before.value is not None
    assert before.value > 0, "other seeds"
    assert after.n == 24
    with pytest.raises(EffaceError, match="at least 2000 images, not 24"):
        benchmark_fid(benchmark, image_generator, None, num_images=24)
