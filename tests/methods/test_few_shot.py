"""Few-shot unlearning: its ascent, its limit and its images."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.spec import RunSpec
from efface.methods.few_shot import Config, few_shot
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.training.run import Run

GUN = Concept("gun", retain_prompts=("a cat", "a hog"))
FEW_STEPS = {"steps": 3, "num_images": 2, "num_inference_steps": 2, "num_templates": 0, "learning_rate": 1e-2}


def erase(model: StableDiffusionModel, **settings: object) -> tuple[set[str], list[dict[str, float]]]:
    """Returns the names of the edited tensors and the losses."""
    run = Run(spec=RunSpec("tiny", model.fingerprint(), "few_shot", {}, (GUN,)))
    erasure = few_shot(model, [GUN], Config(**{**FEW_STEPS, **settings}), run)  # type: ignore[arg-type]
    return {name for edit in erasure.edits for name in edit.tensors}, [dict(row) for row in run.history["train"]]


def test_it_ascends_the_error_in_the_paper_s_layers(model: StableDiffusionModel) -> None:
    names, rows = erase(model)
    assert names == set(model.parameter_group("text_mlp+text_attn:last").parameters)
    assert rows[0]["loss"] == pytest.approx(-rows[0]["error"])


def test_an_error_above_the_limit_is_no_longer_raised(model: StableDiffusionModel) -> None:
    _, rows = erase(model, error_limit=1e-3)
    assert rows[0]["loss"] == pytest.approx(-1e-3)
    _, rows = erase(model, error_limit=1e-3, retain_weight=2.0)
    assert rows[0]["loss"] == pytest.approx(2 * rows[0]["retain"] - 1e-3, abs=1e-6)


def test_its_images_come_from_a_folder(model: StableDiffusionModel, tmp_path: Path) -> None:
    generated = erase(model)[1]
    Image.new("RGB", (model.image_size,) * 2, (255, 0, 0)).save(tmp_path / "a.png")
    assert erase(model, image_folder=str(tmp_path))[1][0]["error"] != pytest.approx(generated[0]["error"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(EffaceError, match="holds no images"):
        erase(model, image_folder=str(tmp_path / "empty"))
