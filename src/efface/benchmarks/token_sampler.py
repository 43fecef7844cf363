"""How pocket's benchmarks, whose sampler is a diffusion model's, sample a bundled model of image tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .samples import Sampler

if TYPE_CHECKING:
    from .benchmark import Benchmark

TOKEN_SAMPLERS = {"pocket-janus": Sampler("tokens", num_inference_steps=64, guidance_scale=1.5)}
"""By model: one step a token, and the guidance scale of its generation_config.json; pocket's 3 draws wrong patches."""


def for_model(benchmark: Benchmark, model: str) -> Benchmark:
    """Returns the benchmark with the model's own sampler, unless it names that one; else the benchmark as it is."""
    sampler = TOKEN_SAMPLERS.get(model)
    if sampler is None or benchmark.sampler.name == sampler.name:
        return benchmark
    return replace(benchmark, sampler=sampler)
