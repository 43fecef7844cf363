"""A benchmark samples a model as its pipeline does."""

from __future__ import annotations

import pytest
from helpers.tiny import tiny_model
from helpers.tiny_flow import tiny_flow_of, tiny_flux_pipe

from efface.benchmarks.new_benchmark import draft_benchmark
from efface.benchmarks.photo_sampler import photo_sampler
from efface.benchmarks.quick_evaluation import quick_benchmark
from efface.core.builtin_concepts import get_builtin
from efface.core.concept import Concept
from efface.models.builder import wrap_pipeline


def test_each_family_has_its_steps_and_guidance_scale() -> None:
    models = (
        tiny_model(),
        tiny_flow_of("sd3"),
        tiny_flow_of("flux"),
        wrap_pipeline(tiny_flux_pipe(guidance=False), "s"),
    )
    samplers = [photo_sampler(model) for model in models]
    assert [(s.num_inference_steps, s.guidance_scale) for s in samplers] == [(50, 7.5), (28, 7.0), (28, 3.5), (4, 0.0)]


def test_the_quick_check_of_a_model_without_guidance_sets_none() -> None:
    schnell = wrap_pipeline(tiny_flux_pipe(guidance=False), "schnell")
    benchmark = quick_benchmark(schnell, [get_builtin("nudity")], "some-clip")
    assert benchmark is not None
    assert benchmark.sampler == photo_sampler(schnell)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the prompt")
def test_a_draft_for_a_model_without_guidance_sets_none() -> None:
    schnell = wrap_pipeline(tiny_flux_pipe(guidance=False), "schnell")
    assert draft_benchmark(schnell, Concept("gun"), domain=["a pistol"]).sampler == photo_sampler(schnell)
