"""Co-Erasing: its refinement, its loss before the first update, and its folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import tiny_model
from helpers.tiny_ip_adapter import tiny_ip_adapter
from PIL import Image

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.spec import RunSpec
from efface.methods.co_erasing import Config, co_erasing
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.training.image_tokens import refine_tokens
from efface.ops.training.run import Run

GUN = Concept("gun", retain_prompts=("a cat", "a hog"))
FEW_STEPS = {
    "warmup_steps": 1,
    "steps": 2,
    "batch_size": 2,
    "num_images": 2,
    "num_inference_steps": 2,
    "trajectories_per_prompt": 1,
    "learning_rate": 1e-2,
}


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    return tiny_model()


@pytest.fixture(scope="module")
def adapter(model: StableDiffusionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_ip_adapter(tmp_path_factory.mktemp("adapters") / "a", model)


def erase(model: StableDiffusionModel, adapter: Path | str, **settings: object) -> Run:
    run = Run(spec=RunSpec("tiny", model.fingerprint(), "co_erasing", {}, (GUN,)))
    config = Config(**{**FEW_STEPS, "image_adapter": str(adapter), **settings})  # type: ignore[arg-type]
    co_erasing(model, [GUN], config, run)
    return run


def test_refined_tokens_are_averages_of_the_text_s_states() -> None:
    states = torch.eye(8)[None, :5]
    refined = refine_tokens(100 * states[:, 2:4], states)
    assert torch.allclose(refined, states[:, 2:4], atol=1e-3)
    assert torch.allclose(refine_tokens(torch.zeros(1, 1, 8), states)[:, 0], states.mean(1), atol=1e-6)


@pytest.mark.slow
def test_it_continues_with_images_from_the_text_erased_model(model: StableDiffusionModel, adapter: Path) -> None:
    run = erase(model, adapter, retain_weight=2.0)
    assert len(run.history["warm-up"]) == 1
    first, _ = run.history["train"]
    assert first["loss"] == pytest.approx(first["erase"] + 2 * first["retain"])
    plain, blurred = (erase(model, adapter, blur_size=size).history["train"][0]["erase"] for size in (0, 3))
    assert plain != pytest.approx(blurred)
    unrefined = erase(model, adapter, blur_size=0, refine=False).history["train"][0]["erase"]
    assert unrefined != pytest.approx(plain)


def test_images_come_from_a_folder_of_the_model_s_size(
    model: StableDiffusionModel, adapter: Path, tmp_path: Path
) -> None:
    size = model.image_size
    Image.new("RGB", (size, size), (255, 0, 0)).save(tmp_path / "a.png")
    erase(model, adapter, image_folder=str(tmp_path))
    Image.new("RGB", (size, size + 1)).save(tmp_path / "b.png")
    with pytest.raises(EffaceError, match=f"b.png has {size} x {size + 1} pixels"):
        erase(model, adapter, image_folder=str(tmp_path))


def test_it_says_what_it_needs(model: StableDiffusionModel) -> None:
    with pytest.raises(EffaceError, match="--set image_adapter=FOLDER"):
        erase(model, "")
