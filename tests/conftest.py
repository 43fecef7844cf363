from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.tiny import tiny_model
from hypothesis import settings

from efface.benchmarks.benchmark import Benchmark, find_benchmark
from efface.detectors.pocket_judge import Judge, load_judge
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.change_check import change_check

settings.register_profile("no_deadline", deadline=None)  # on a busy machine, an example's duration means nothing
settings.load_profile("no_deadline")


@pytest.fixture(scope="session", autouse=True)
def _seed_and_shared_image_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(0)
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # pytest-xdist's workers share images
    os.environ["EFFACE_CACHE"] = str(shared / "images")


def _quick_benchmark(model: str, concept: str) -> Benchmark | None:
    benchmark = find_benchmark(model, concept)
    return benchmark and replace(benchmark, sampler=replace(benchmark.sampler, num_inference_steps=4))


@pytest.fixture(scope="session", autouse=True)
def _few_steps(request: pytest.FixtureRequest) -> Iterator[None]:
    """Shortens the change check and the quick evaluation, which end each of hundreds of erasures."""
    with pytest.MonkeyPatch.context() as patch:
        if "not effect" in request.config.option.markexpr:
            patch.setattr(
                "efface.execution.effect_check.change_check", partial(change_check, num_images=4, num_inference_steps=2)
            )
            patch.setattr("efface.benchmarks.quick_evaluation.find_benchmark", _quick_benchmark)
            patch.setattr("efface.benchmarks.quick_evaluation.NUM_IMAGES", 4)
        yield


@pytest.fixture(scope="session")
def pocket() -> StableDiffusionModel:
    return load_model("pocket", device="cpu")


@pytest.fixture(scope="session")
def judge() -> Judge:
    return load_judge()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread, as in processes that share work, so that results are equal bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny() -> StableDiffusionModel:
    return tiny_model()


LONG = ("effect", "distributed", "training")
"""Folders of the longest tests. Those of the first share images."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the longest tests first: pytest-xdist gives each of two workers one half of the list, in order."""
    first = [item for item in items if item.path.parent.name == LONG[0]]
    second = [item for item in items if item.path.parent.name in LONG[1:]]
    others = [item for item in items if item.path.parent.name not in LONG]
    half = len(items) // 2 - len(first)
    items[:] = [*first, *others[:half], *second, *others[half:]]
