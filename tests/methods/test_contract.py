"""The contract of every registered method, on tiny models."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from helpers.fast import slow_but
from helpers.interrupt import InterruptAfter
from helpers.tiny import TEMPLATES, state_bytes, tiny_model, tiny_of
from helpers.tiny_flow import tiny_flow_of
from helpers.tiny_ip_adapter import tiny_ip_adapter
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.execution import resolve_config, run_method
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.apply import applied
from efface.ops.tensor_conversion import to_torch
from efface.ops.training.progress import Silent
from efface.ops.training.run import Run

FEW_STEPS = {
    "steps": 6,
    "warmup_steps": 2,
    "attack_steps": 2,
    "batch_size": 2,
    "retain_batch_size": 1,
    "learning_rate": 1e-2,
    "max_grad_norm": 100.0,
    "num_images": 4,
    "num_inference_steps": 2,
    "num_templates": 0,
    "trajectories_per_prompt": 1,
    "top_k": 1,
    "domain_images": 0,
    "ambiguous_fraction": 0.0,
}
OVERRIDES: dict[str, dict[str, Any]] = {
    "ant": {"saliency_maps": 2, "saliency_steps": 1},
    "concept_ablation": {"num_images": 16},
    "crce": {"coreference_file": str(Path(__file__).with_name("coreferences.yaml"))},
    "elide": {"num_templates": 3},
    "sage": {"num_templates": 3},
    "itd": {"layer": 0, "second_layer": 0, "num_features": 64, "num_active": 4, "top_features": 8, "num_words": 8},
    "receler": {"num_learned_states": 4},
    "trce": {"ridge": 1e-3, "retain_trajectories": 2},
    "unguide": {"gate_repeats": 2, "gate_steps": 1, "gate_inference_steps": 2},
}
"""Settings of single methods: images of both concepts, templates that fit the context, a regular system."""
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
CONCEPT = Concept("gun", retain_prompts=("a cat", "a dog"), template_library=TEMPLATES)
ROOT = Path(__file__).parents[2]
ADAPTERS = TemporaryDirectory()

all_methods = pytest.mark.parametrize("name", IMAGE_METHODS)
every_method = pytest.mark.parametrize("name", METHODS.names())
FAMILY_CASES = [
    pytest.param(name, family, marks=() if (name, family) in FAST_FAMILY_CASES else pytest.mark.slow)
    for name in IMAGE_METHODS
    for family in ("sdxl", "sd2")
]


def module_of(name: str) -> Any:
    return sys.modules[METHODS.get(name).__module__]  # type: ignore[attr-defined]


def few_steps(name: str, **settings: Any) -> dict[str, Any]:
    """Few and large steps, changed by the given settings, for the fields that the method has."""
    fields = {field.name for field in dataclasses.fields(module_of(name).Config)}
    chosen = FEW_STEPS | OVERRIDES.get(name, {}) | settings
    return {key: value for key, value in chosen.items() if key in fields}


def run(
    name: str,
    out: Path,
    model: StableDiffusionModel | None = None,
    concepts: tuple[Concept, ...] = (CONCEPT,),
    *,
    seed: int = 3,
    resume: bool = False,
    progress: Silent | None = None,
    **settings: Any,
) -> Erasure:
    model = model or model_for(name)
    settings |= {"image_adapter": adapter_for(model.family)} if name == "co_erasing" else {}
    return run_method(
        model,
        concepts,
        out,
        METHODS.get(name),
        preset="paper",
        overrides=few_steps(name, **settings),
        seed=seed,
        resume=resume,
        overwrite=False,
        progress=progress,
    )


@cache
def adapter_for(family: str) -> str:
    """The folder of a tiny IP-Adapter for the tiny models of a family."""
    return str(tiny_ip_adapter(Path(ADAPTERS.name) / family, tiny_of(family)))


def model_for(name: str) -> Any:
    """A tiny Stable Diffusion 1, or a tiny FLUX for methods of flow models alone."""
    return tiny_model() if "sd1" in METHODS.card(name).families else tiny_flow_of("flux")


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


@every_method
def test_card_config_and_page(name: str) -> None:
    card, module = METHODS.card(name), module_of(name)
    assert card == module.CARD
    assert card.name == name == METHODS.get(name).__name__  # type: ignore[attr-defined]
    assert card.summary.endswith(".")
    assert re.fullmatch(r"\d{4}\.\d{4,5}", card.arxiv) or "method of this project" in card.paper
    assert card.arxiv in module.__doc__
    for preset in module.PRESETS:
        resolve_config(METHODS.get(name), preset, "pocket", {})
    assert resolve_config(METHODS.get(name), "paper", "x", {})[0] == module.Config()
    assert card.title in (ROOT / "docs" / "methods" / f"{name}.md").read_text()


@every_method
def test_a_method_is_one_file_without_side_effects(name: str) -> None:
    text = Path(module_of(name).__file__).read_text()
    assert len(text.splitlines()) <= 200
    imports = ("efface.pocket_world", "efface.methods", "efface.detectors.pocket_judge")
    for banned in (*imports, "print(", "manual_seed", "open(", "cuda"):
        assert banned not in text, banned


SHARED_FIELDS = (
    "batch_size",
    "learning_rate",
    "num_inference_steps",
    "num_templates",
    "schedule",
    "steps",
    "target",
    "target_modules",
    "trajectories_per_prompt",
)


@pytest.mark.parametrize("field", SHARED_FIELDS)
def test_fields_of_the_same_name_have_the_same_help(field: str) -> None:
    texts: dict[tuple[str, ...], set[str]] = {}
    for name in METHODS.names():
        kind = METHODS.card(name).kinds
        helps = [item.metadata["help"] for item in dataclasses.fields(module_of(name).Config) if item.name == field]
        texts.setdefault(kind, set()).update(helps)
    assert {kind: len(helps) for kind, helps in texts.items() if len(helps) > 1} == {}


@every_method
def test_help_texts_are_sentences(name: str) -> None:
    for field in dataclasses.fields(module_of(name).Config):
        assert re.fullmatch(r"[A-Z].*\.", field.metadata["help"]), field.name
