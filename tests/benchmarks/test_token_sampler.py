"""A Janus-type model is measured with its own guidance scale, not with that of a diffusion model."""

from __future__ import annotations

import json
from dataclasses import replace

from efface.benchmarks.benchmark import Benchmark, find_benchmark
from efface.benchmarks.samples import Sampler
from efface.benchmarks.token_sampler import TOKEN_SAMPLERS, for_model
from efface.models.model_ref import bundled_folder


def test_the_bundled_model_has_the_sampler_of_its_files() -> None:
    folder = bundled_folder("pocket-janus")
    generation = json.loads((folder / "generation_config.json").read_text())
    tokens = json.loads((folder / "config.json").read_text())["vision_config"]["num_image_tokens"]
    assert TOKEN_SAMPLERS["pocket-janus"] == Sampler("tokens", tokens, generation["guidance_scale"])


def test_benchmarks_take_the_sampler_of_the_model() -> None:
    shipped = Benchmark.load("pocket-weapon")
    found = find_benchmark("pocket-janus", "weapon")
    assert found is not None
    assert found.sampler == TOKEN_SAMPLERS["pocket-janus"]
    assert found.prompts_hash == shipped.prompts_hash
    assert find_benchmark("pocket", "weapon") == shipped


def test_a_benchmark_with_a_sampler_of_tokens_keeps_it() -> None:
    own = replace(Benchmark.load("pocket-weapon"), sampler=Sampler("tokens", 64, 2.0))
    assert for_model(own, "pocket-janus") == own
