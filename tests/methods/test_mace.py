"""MACE's Gram matrices, masks, and resumption between concepts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import tiny_model
from PIL import Image
from torch import Tensor

from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.registry import METHODS
from efface.core.spec import RunSpec
from efface.execution import run_method
from efface.methods.mace import Config, mace
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import EmbeddingCache, GramAccumulator, encoder_hash, mean_caption_gram
from efface.ops.editing.apply import applied
from efface.ops.training.progress import Silent
from efface.ops.training.run import Run

FEW_STEPS = {"num_templates": 0, "steps": 2, "num_images": 2, "num_inference_steps": 2, "learning_rate": 1e-2}


def edited_weights(model: StableDiffusionModel, **settings: Any) -> dict[str, Tensor]:
    concept = Concept("gun", retain_prompts=("a cat", "a dog"))
    run = Run(spec=RunSpec("tiny", model.fingerprint(), "mace", {}, (concept,)))
    erasure = mace(model, (concept,), Config(**{**FEW_STEPS, **settings}), run)
    with applied(model, erasure):
        return {name: w.detach().clone() for name, w in model.parameter_group("cross_kv").parameters.items()}


def test_a_saved_gram_matrix_replaces_the_retain_prompts(model: StableDiffusionModel, tmp_path: Path) -> None:
    folder = GramAccumulator.of_captions(model, ["", "a cat", "a dog"]).save(tmp_path / "gram")
    cache = EmbeddingCache.for_model(model)
    saved, computed = (
        mean_caption_gram(model, cache, (), str(folder)),
        mean_caption_gram(model, cache, ["a cat", "a dog"]),
    )
    torch.testing.assert_close(saved, computed)
    from_folder, from_prompts = edited_weights(model, gram_folder=str(folder)), edited_weights(model)
    torch.testing.assert_close(from_folder, from_prompts, rtol=1e-6, atol=1e-7)


def test_a_gram_matrix_of_another_encoder_is_an_error(model: StableDiffusionModel, tmp_path: Path) -> None:
    other = GramAccumulator(torch.eye(32, dtype=torch.float64), encoder_hash(tiny_model(seed=3)), 1, 1)
    with pytest.raises(EffaceError, match="another text encoder"):
        edited_weights(model, gram_folder=str(other.save(tmp_path / "gram")))


def test_white_masks_equal_no_masks_and_black_masks_train_nothing(model: StableDiffusionModel, tmp_path: Path) -> None:
    results = {}
    for colour in (0, 255):
        folder = tmp_path / str(colour)
        folder.mkdir()
        for i in range(2):
            Image.new("L", (16, 16), colour).save(folder / f"{i}.png")
        results[colour] = edited_weights(model, mask="folder", mask_folder=str(folder))
    no_masks = edited_weights(model, mask="none")
    assert all(torch.equal(results[255][name], weight) for name, weight in no_masks.items())
    assert any(not torch.equal(results[0][name], weight) for name, weight in no_masks.items())


def test_invalid_mask_settings_are_errors(model: StableDiffusionModel) -> None:
    with pytest.raises(EffaceError, match="set mask_folder"):
        edited_weights(model, mask="folder")
    with pytest.raises(UnknownNameError, match="did you mean 'attention'"):
        edited_weights(model, mask="atention")


class InterruptSecondConcept(Silent):
    """Interrupts the loop of the second concept."""

    phase = ""

    def start(self, phase: str, total: int, done: int) -> None:
        self.phase = phase

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        if self.phase.startswith("lora 2") and done == 4:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.slow
def test_a_run_resumes_in_the_second_concept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efface.execution.erasure.Run", partial(Run, checkpoint_every=2))
    concepts = (Concept("gun", retain_prompts=("a cat",)), Concept("a/b", templates=("a {}",)))

    def run(name: str, resume: bool = False, progress: Silent | None = None) -> bytes:
        erasure = run_method(
            tiny_model(),
            concepts,
            tmp_path / name,
            METHODS.get("mace"),
            preset="paper",
            overrides={**FEW_STEPS, "steps": 6},
            seed=0,
            resume=resume,
            overwrite=False,
            progress=progress,
        )
        return erasure.tensors_path.read_bytes()

    with pytest.raises(KeyboardInterrupt):
        run("interrupted", progress=InterruptSecondConcept())
    checkpoints = sorted(path.name for path in (tmp_path / ".interrupted.run").iterdir() if path.is_dir())
    assert checkpoints == ["lora 1 gun-00000006", "lora 2 a-b-00000002"]
    assert run("interrupted", resume=True) == run("uninterrupted")
