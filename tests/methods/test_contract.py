"""The contract of every method of image models, on tiny models."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fast import slow_but
from helpers.interrupt import InterruptAfter
from helpers.method_runs import CONCEPT, model_for, run
from helpers.tiny import TEMPLATES, state_bytes, tiny_of
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.apply import applied
from efface.ops.tensor_conversion import to_torch
from efface.ops.training.run import Run

DETERMINISTIC = ("irece", "leace", "negative_prompt", "rece", "sld", "uce")
"""Methods whose result does not depend on the seed."""
OTHER_KINDS = ("causal_lm", "janus", "image_classifier")
IMAGE_METHODS = tuple(name for name in METHODS.names() if not set(METHODS.card(name).families) <= {*OTHER_KINDS})
"""Methods of models with a denoiser; the tests beside this one named after a kind of model test the others."""
TRAINED = tuple(name for name in IMAGE_METHODS if METHODS.card(name).needs_gradient)
"""Methods with a training loop."""
FAST_FAMILY_CASES = [(name, "sdxl") for name in ("elide", "esd", "uce")]
"""One method of each way to change a model; the others run on SDXL and Stable Diffusion 2 in ``make effect``."""
RESUMED = ("co_erasing", "esd", "receler", "sage")
"""Methods of one phase and of two, with an attack, on the text encoder; the others resume in ``make effect``."""

all_methods = pytest.mark.parametrize("name", IMAGE_METHODS)
FAMILY_CASES = [
    pytest.param(name, family, marks=() if (name, family) in FAST_FAMILY_CASES else pytest.mark.slow)
    for name in IMAGE_METHODS
    for family in ("sdxl", "sd2")
]


DefaultRun = Callable[[str], tuple[StableDiffusionModel, Erasure]]


@pytest.fixture(scope="session")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> DefaultRun:
    """Runs a method with its default seed, once in a session; returns the model after the run and the erasure."""

    @cache
    def run_once(name: str) -> tuple[StableDiffusionModel, Erasure]:
        model = model_for(name)
        return model, run(name, tmp_path_factory.mktemp("default-run") / name, model)

    return run_once


def sample(model: Any) -> Tensor:
    scale = model.default_guidance_scale
    return model.sample(["a gun"], seeds=[1], num_inference_steps=2, guidance_scale=scale)


def assert_changes_images(model: StableDiffusionModel, erasure: Erasure) -> None:
    """The erasure changes the concept's image to finite values, and its removal restores every byte."""
    state, unedited = state_bytes(model), sample(model)
    with applied(model, erasure):
        edited = sample(model)
    assert not torch.equal(unedited, edited)
    assert torch.isfinite(edited).all()
    assert state_bytes(model) == state
    assert torch.equal(sample(model), unedited)


def assert_edits_every_encoder(model: StableDiffusionModel, erasure: Erasure) -> None:
    components = {edit.component for edit in erasure.edits}
    if any(component.startswith("text_encoder") for component in components):
        assert components == {encoder.component for encoder in model.encoders}, "an unedited encoder knows the concept"


@all_methods
def test_a_saved_erasure_changes_images_and_can_be_removed(name: str, default_run: DefaultRun) -> None:
    model, erasure = default_run(name)
    assert state_bytes(model) == state_bytes(model_for(name)), "training must not change the base model"
    assert_edits_every_encoder(model, erasure)
    assert erasure.folder is not None
    assert_changes_images(model, Erasure.load(erasure.folder))


@pytest.mark.slow
@all_methods
def test_it_runs_in_bfloat16(name: str, tmp_path: Path) -> None:
    model = load_model(model_for(name).pipe, dtype="bfloat16")
    erasure = run(name, tmp_path / "e", model, steps=3)
    for key, tensor in erasure.tensors.items():
        assert to_torch(tensor).double().isfinite().all(), key
    assert_changes_images(model, erasure)


@pytest.mark.slow
@all_methods
def test_another_seed_changes_the_bytes_of_random_methods(name: str, tmp_path: Path, default_run: DefaultRun) -> None:
    _, first = default_run(name)
    other = run(name, tmp_path / "other", seed=4)
    is_equal = other.tensors_path.read_bytes() == first.tensors_path.read_bytes()
    assert is_equal == (name in DETERMINISTIC)
    assert first.spec.hash != other.spec.hash


@pytest.mark.parametrize("name", [name for name in IMAGE_METHODS if name not in (*DETERMINISTIC, *TRAINED)])
def test_the_same_seed_gives_the_same_bytes(name: str, tmp_path: Path, default_run: DefaultRun) -> None:
    """Tests the random methods without a training loop; those with one repeat a seed in the next test."""
    (_, first), second = default_run(name), run(name, tmp_path / "second")
    assert first.tensors_path.read_bytes() == second.tensors_path.read_bytes()
    assert first.edits == second.edits


@pytest.mark.parametrize("name", slow_but(RESUMED, TRAINED))
def test_an_interrupted_run_resumes_to_the_same_bytes(
    name: str, tmp_path: Path, default_run: DefaultRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, uninterrupted = default_run(name)
    monkeypatch.setattr("efface.execution.erasure.Run", partial(Run, checkpoint_every=2))
    with pytest.raises(KeyboardInterrupt):
        run(name, tmp_path / "e", progress=InterruptAfter(4))
    assert not (tmp_path / "e").exists()
    resumed = run(name, tmp_path / "e", resume=True)
    assert resumed.tensors_path.read_bytes() == uninterrupted.tensors_path.read_bytes()
    assert resumed.edits == uninterrupted.edits
    assert not (tmp_path / ".e.run").exists(), "a saved erasure needs no checkpoints"


@pytest.mark.parametrize(("name", "family"), FAMILY_CASES)
def test_it_runs_on_every_family_of_its_card(name: str, family: str, tmp_path: Path) -> None:
    """Every test above runs it on sd1."""
    model = tiny_of(family)
    if family not in METHODS.card(name).families:
        with pytest.raises(EffaceError, match=f"{name} does not support {family} models"):
            run(name, tmp_path / "e", model)
        return
    erasure = run(name, tmp_path / "e", model, steps=3)
    assert_edits_every_encoder(model, erasure)
    assert_changes_images(model, erasure)


@pytest.mark.slow
@all_methods
def test_the_second_concept_changes_the_result(name: str, tmp_path: Path, default_run: DefaultRun) -> None:
    concepts = (CONCEPT, Concept("cub", anchor="x", template_library=TEMPLATES))
    both, (_, first) = run(name, tmp_path / "both", concepts=concepts), default_run(name)
    assert both.concepts == concepts
    assert (both.edits, both.tensors_path.read_bytes()) != (first.edits, first.tensors_path.read_bytes())
