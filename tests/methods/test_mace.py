"""MACE's parts against what they are said to be, in float64 on a small model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

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
from efface.methods.mace import Config, attention_loss, mace
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import (
    EmbeddingCache,
    GramAccumulator,
    encoder_mark,
    mean_caption,
)
from efface.ops.editing.apply import applied
from efface.ops.training.progress import Silent
from efface.ops.training.run import Run


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    """Layer norms with values of their own: with zero biases every Gram would be singular."""
    made = tiny_model(dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.text_encoder.named_parameters():
        if "final_layer_norm" in name:
            parameter.data.copy_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_loss_is_the_norm_at_marked_tokens_within_the_mask() -> None:
    layer = drawn(2, 3, 16, 5).softmax(-1).requires_grad_()
    masks, marked = torch.zeros(2, 8, 8), torch.zeros(2, 5, dtype=torch.bool)
    masks[0, :4], marked[0, [1, 4]] = 1, True
    expected = layer[0][:, :8][..., [1, 4]].norm()
    loss = attention_loss([layer], masks, marked)
    torch.testing.assert_close(loss, expected / 2)
    loss.backward()
    assert bool(layer.grad is not None and layer.grad.isfinite().all()), (
        "an image without a mask has no gradient, not NaN"
    )


SMALL = {"templates": 0, "steps": 2, "images": 2, "sampler_steps": 2, "lr": 1e-2}


def erased(model: StableDiffusionModel, **settings: object) -> dict[str, Tensor]:
    concept = Concept("gun", retain_prompts=("a cat", "a dog"))
    config = Config(**{**SMALL, **settings})  # type: ignore[arg-type]
    erasure = mace(model, (concept,), config, Run(spec=RunSpec("tiny", model.fingerprint(), "mace", {}, (concept,))))
    with applied(model, erasure):
        return {n: w.detach().clone() for n, w in model.parameter_group("cross_kv").parameters.items()}


def test_a_gram_made_elsewhere(model: StableDiffusionModel, tmp_path: Path) -> None:
    """The same captions in a folder are as good as the retain prompts; those of another encoder are refused."""
    folder = GramAccumulator.of_captions(model, ["", "a cat", "a dog"]).save(tmp_path / "gram")
    bank = EmbeddingCache.of(model)
    torch.testing.assert_close(
        mean_caption(model, bank, (), str(folder)), mean_caption(model, bank, ["a cat", "a dog"])
    )
    for a, b in zip(erased(model, gram=str(folder)).values(), erased(model).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    GramAccumulator(torch.eye(32, dtype=torch.float64), encoder_mark(tiny_model(seed=3)), 1, 1).save(tmp_path / "other")
    with pytest.raises(EffaceError, match="another text encoder"):
        erased(model, gram=str(tmp_path / "other"))


def test_masks_of_a_folder_and_choices_that_are_none(model: StableDiffusionModel, tmp_path: Path) -> None:
    for i in range(2):
        Image.new("L", (16, 16), 255).save(tmp_path / f"{i}.png")
    whole, everywhere = erased(model, mask="folder", masks=str(tmp_path)), erased(model, mask="none")
    assert all(torch.equal(a, b) for a, b in zip(whole.values(), everywhere.values(), strict=True))
    with pytest.raises(EffaceError, match="needs masks"):
        erased(model, mask="folder")
    with pytest.raises(UnknownNameError, match="attention"):
        erased(model, mask="atention")


class InTheSecond(Silent):
    """Stops the run in the second concept's loop."""

    phase = ""

    def start(self, phase: str, total: int, done: int) -> None:
        self.phase = phase

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        if self.phase.startswith("lora 2") and done == 4:
            raise KeyboardInterrupt


def test_resume_in_the_second_concept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efface.execution.Run", partial(Run, checkpoint_every=2))
    concepts = (Concept("gun", retain_prompts=("a cat",)), Concept("a/b", templates=("a {}",)))
    settings = {"preset": "paper", "overrides": {**SMALL, "steps": 6}, "seed": 0, "overwrite": False}

    def run(name: str, resume: bool = False, progress: Silent | None = None) -> bytes:
        out = tmp_path / name
        return run_method(
            tiny_model(), concepts, out, METHODS.get("mace"), resume=resume, progress=progress, **settings
        ).tensors_path.read_bytes()  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        run("broken", progress=InTheSecond())
    assert sorted(p.name for p in (tmp_path / ".broken.run").iterdir() if p.is_dir()) == [
        "lora 1 gun-00000006",
        "lora 2 a-b-00000002",
    ]
    assert run("broken", resume=True) == run("whole")
