"""What every registered method must keep, on a model small enough for a test."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import PIPES, state_bytes, tiny_model, tiny_of

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.execution import resolve_config, run_method
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.apply import applied
from efface.ops.training.progress import Silent
from efface.ops.training.run import Run

SMALL = {"steps": 6, "images": 4, "sampler_steps": 2, "runs": 1, "batch": 2, "lr": 1e-2, "clip": 100.0}
SMALL |= {"warmup": 2, "attack_steps": 2, "top": 1, "sentences": 3, "retain_batch": 1, "templates": 0}
CONCEPT = Concept("gun", retain_prompts=("a cat", "a dog"))
ROOT = Path(__file__).parents[2]


def small(name: str) -> dict[str, Any]:
    """Few steps, large ones, of whatever the method has."""
    module = sys.modules[METHODS.get(name).__module__]  # type: ignore[attr-defined]
    sentences = str(Path(__file__).with_name("sentences.txt"))  # short, for the tiny context
    own = {"sage": {"templates": sentences}, "trce": {"sentences": 0, "lamb": 1e-3, "keep_runs": 2}}.get(name, {})
    return {
        key: value for key, value in SMALL.items() if key in {field.name for field in dataclasses.fields(module.Config)}
    } | own


def run(name: str, out: Path, model: StableDiffusionModel | None = None, **more: Any) -> Erasure:
    settings: dict[str, Any] = {
        "preset": "paper",
        "overrides": small(name),
        "seed": 3,
        "resume": False,
        "overwrite": False,
        "progress": None,
    }
    METHODS.get(name)
    return run_method(model or tiny_model(), (CONCEPT,), out, METHODS.get(name), **{**settings, **more})


@pytest.mark.parametrize("name", METHODS.names())
def test_saves_applies_and_comes_off_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = tiny_model()
    before = state_bytes(model)
    run(name, tmp_path / "e", model)
    assert state_bytes(model) == before, "erasing leaves the base as it is"
    erasure = Erasure.load(tmp_path / "e")
    plain = model.sample(["a gun"], seeds=[1], num_inference_steps=2)
    with applied(model, erasure):
        edited = model.sample(["a gun"], seeds=[1], num_inference_steps=2)
    assert not torch.equal(plain, edited)
    assert torch.isfinite(edited).all()
    assert state_bytes(model) == before
    assert torch.equal(model.sample(["a gun"], seeds=[1], num_inference_steps=2), plain)


@pytest.mark.parametrize("name", METHODS.names())
def test_it_runs_in_bfloat16(name: str, tmp_path: Path) -> None:
    """What a GPU computes in where nobody says."""
    assert run(name, tmp_path / "e", tiny_model(dtype=torch.bfloat16)).edits


def draws(name: str) -> bool:
    """Whether the method, as published, draws at random; a closed form has nothing random."""
    text = Path(str(sys.modules[METHODS.get(name).__module__].__file__)).read_text()  # type: ignore[attr-defined]
    return METHODS.card(name).needs_gradient or "run.generator(" in text


@pytest.mark.parametrize("name", METHODS.names())
def test_the_same_seed_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    one, two = (run(name, tmp_path / out) for out in ("one", "two"))
    assert one.tensors_path.read_bytes() == two.tensors_path.read_bytes()
    assert one.edits == two.edits
    other = run(name, tmp_path / "three", seed=4)
    if one.tensors and draws(name):
        assert other.tensors_path.read_bytes() != one.tensors_path.read_bytes()
    assert one.spec.hash != other.spec.hash


class Interrupt(Silent):
    """Stops the run in the middle, as Ctrl-C would."""

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        if losses and done == 4:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", METHODS.names())
def test_an_interrupted_run_resumes_to_the_same_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("efface.execution.Run", partial(Run, checkpoint_every=2))
    if not METHODS.card(name).needs_gradient:
        pytest.skip("nothing is trained")
    whole = run(name, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(name, tmp_path / "broken", progress=Interrupt())
    assert not (tmp_path / "broken").exists()
    resumed = run(name, tmp_path / "broken", resume=True)
    assert resumed.tensors_path.read_bytes() == whole.tensors_path.read_bytes()
    assert not (tmp_path / ".broken.run").exists(), "checkpoints go when the erasure is there"


@pytest.mark.parametrize("family", PIPES)
@pytest.mark.parametrize("name", METHODS.names())
def test_runs_on_every_family_of_its_card(name: str, family: str, tmp_path: Path) -> None:
    model = tiny_of(family)
    if family not in METHODS.card(name).families:
        with pytest.raises(EffaceError, match=f"{name} does not support {family} models"):
            run(name, tmp_path / "e", model)
        return
    before = state_bytes(model)
    run(name, tmp_path / "e", model)
    assert state_bytes(model) == before
    erasure = Erasure.load(tmp_path / "e")
    trained = {edit.component for edit in erasure.edits}
    if any(component.startswith("text_encoder") for component in trained):
        assert trained == {encoder.component for encoder in model.encoders}, (
            "every text encoder, or whoever asks the other gets it"
        )
    plain = model.sample(["a gun"], seeds=[1], num_inference_steps=2)
    with applied(model, erasure):
        edited = model.sample(["a gun"], seeds=[1], num_inference_steps=2)
    assert torch.isfinite(edited).all()
    assert not torch.equal(plain, edited)
    assert state_bytes(model) == before


@pytest.mark.parametrize("name", METHODS.names())
def test_several_concepts_at_once(name: str, tmp_path: Path) -> None:
    two = (Concept("gun"), Concept("dog", anchor="cat", retain_prompts=("a cat",)))
    settings = {
        "preset": "paper",
        "overrides": small(name),
        "seed": 0,
        "resume": False,
        "overwrite": False,
        "progress": None,
    }
    erasure = run_method(tiny_model(), two, tmp_path / "e", METHODS.get(name), **settings)  # type: ignore[arg-type]
    assert [c.name for c in erasure.concepts] == ["gun", "dog"]
    assert erasure.cost is not None
    assert erasure.cost.seconds > 0


@pytest.mark.parametrize("name", METHODS.names())
def test_card_and_page(name: str) -> None:
    card, function = METHODS.card(name), METHODS.get(name)
    module = sys.modules[function.__module__]  # type: ignore[attr-defined]
    assert card == module.CARD
    assert card.name == name == function.__name__  # type: ignore[attr-defined]
    assert card.summary.endswith(".")
    assert re.fullmatch(r"\d{4}\.\d{4,5}", card.arxiv)
    assert card.arxiv in (module.__doc__ or "")
    assert all(field.metadata.get("help") for field in dataclasses.fields(module.Config)), "every field says what it is"
    for preset in module.PRESETS:
        resolve_config(function, preset, "pocket", {})
    assert resolve_config(function, "paper", "x", {})[0] == module.Config()
    page = ROOT / "docs" / "methods" / f"{name}.md"
    assert page.is_file()
    assert card.title in page.read_text()


@pytest.mark.parametrize("name", METHODS.names())
def test_a_method_is_one_file_that_reads_no_ontology(name: str) -> None:
    text = Path(str(sys.modules[METHODS.get(name).__module__].__file__)).read_text()  # type: ignore[attr-defined]
    assert len(text.splitlines()) <= 220
    for banned in (
        "efface.pocket_world",
        "efface.methods",
        "efface.detectors.pocket_judge",
        "print(",
        "manual_seed",
        "open(",
        "cuda",
    ):
        assert banned not in text, banned
