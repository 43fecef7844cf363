"""The contract of every method for language models, on a tiny model."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fast import slow_but
from helpers.interrupt import InterruptAfter
from helpers.tiny import tiny_model
from helpers.tiny_language import tiny_language_model, write_autoencoder

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.execution import run_method
from efface.models.causal_lm import CausalLM
from efface.ops.editing.apply import applied
from efface.ops.training.run import Run

NAMES = tuple(name for name in METHODS.names() if METHODS.card(name).families == ("causal_lm",))
TRAINED = tuple(name for name in NAMES if METHODS.card(name).needs_gradient)
SMALL = {
    "steps": 4,
    "batch_size": 2,
    "rank": 2,
    "layer": 1,
    "learning_rate": 1e-2,
    "num_texts": 12,
    "num_retain_texts": 8,
    "retain_target": "distribution",
    "target_modules": "attn_mlp:0-1",
    "max_length": 12,
    "amnesic": 1.0,
    "max_frequency": 1.0,
    "max_loss": 1.0,
    "min_tokens": 1,
    "strength": 4.0,
    "threshold": 0.5,
}
OTHERS = tuple(f"the {a} is {b} for it ." for a in ("cat", "dog") for b in ("made", "used", "it", "a"))
CONCEPT = Concept("gun", retain_prompts=("a cat meow .", "a dog bark .", *OTHERS))
all_methods = pytest.mark.parametrize("name", NAMES)


def run(name: str, out: Path, model: CausalLM | None = None, **options: Any) -> Erasure:
    function: Any = METHODS.get(name)
    fields = {field.name for field in dataclasses.fields(sys.modules[function.__module__].Config)}
    base = model or tiny_language_model()
    overrides = {key: value for key, value in SMALL.items() if key in fields}
    if "autoencoders" in fields:
        folder = out.parent / f"autoencoders-{base.name}"
        for site in () if folder.exists() else ("mlp_out", "resid_post"):
            write_autoencoder(folder, base, 1, site)
        overrides["autoencoders"] = str(folder)
    defaults = {"seed": 3, "resume": False, "progress": None}
    return run_method(
        base, (CONCEPT,), out, function, preset="paper", overrides=overrides,
        overwrite=False, **(defaults | options),
    )  # fmt: skip


def logits(model: CausalLM) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model.tokenize(["what is a gun ?"]))


@all_methods
@pytest.mark.parametrize("shape", slow_but(["llama"], ["llama", "gpt2"]))
def test_a_saved_erasure_changes_logits_and_can_be_removed_exactly(name: str, shape: str, tmp_path: Path) -> None:
    model = tiny_language_model(shape)
    state = {key: tensor.clone() for key, tensor in model.module.state_dict().items()}
    before = logits(model)
    run(name, tmp_path / "e", model)
    with applied(model, Erasure.load(tmp_path / "e")):
        after = logits(model)
    assert after.isfinite().all()
    assert not torch.equal(before, after)
    assert torch.equal(logits(model), before)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.module.state_dict().items())


@pytest.mark.slow
@all_methods
def test_it_runs_in_bfloat16(name: str, tmp_path: Path) -> None:
    model = tiny_language_model(dtype=torch.bfloat16)
    erasure = run(name, tmp_path / "e", model)
    with applied(model, erasure):
        assert logits(model).isfinite().all()


@pytest.mark.parametrize("name", slow_but(["elm"], TRAINED))
def test_an_interrupted_run_resumes_to_the_same_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(name, tmp_path / "first")
    monkeypatch.setattr("efface.execution.erasure.Run", partial(Run, checkpoint_every=2))
    with pytest.raises(KeyboardInterrupt):
        run(name, tmp_path / "e", progress=InterruptAfter(2))
    resumed = run(name, tmp_path / "e", resume=True)
    assert resumed.tensors_path.read_bytes() == first.tensors_path.read_bytes()


def test_the_wrong_kind_of_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match=r"elm does not support sd1 models .* it supports language models"):
        run("elm", tmp_path / "a", tiny_model())  # type: ignore[arg-type]
    with pytest.raises(EffaceError, match=r"esd does not support causal_lm models .* it supports sd1"):
        run("esd", tmp_path / "b")


def test_a_layer_that_the_model_does_not_have_is_refused(tmp_path: Path) -> None:
    function: Any = METHODS.get("rmu")
    with pytest.raises(EffaceError, match="no layer 9: give one from 0 to 2"):
        run_method(
            tiny_language_model(), (CONCEPT,), tmp_path / "e", function, preset=None, overrides={"layer": 9}, seed=0,
            resume=False, overwrite=False, progress=None,
        )  # fmt: skip


def test_an_unknown_retain_target_is_refused(tmp_path: Path) -> None:
    function: Any = METHODS.get("elm")
    with pytest.raises(EffaceError, match=r"retain target 'word'.*token"):
        run_method(
            tiny_language_model(), (CONCEPT,), tmp_path / "e", function, preset=None,
            overrides={"retain_target": "word"}, seed=0, resume=False, overwrite=False, progress=None,
        )  # fmt: skip


def test_an_empty_file_of_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n\n")
    function: Any = METHODS.get("npo")
    with pytest.raises(EffaceError, match="holds no texts"):
        run_method(
            tiny_language_model(), (CONCEPT,), tmp_path / "e", function, preset=None,
            overrides={"texts_file": str(tmp_path / "texts.txt")}, seed=0, resume=False, overwrite=False, progress=None,
        )  # fmt: skip
