"""CRCE: its losses before the first update, its weights, and its files of words."""

from __future__ import annotations

from pathlib import Path

import pytest

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.spec import RunSpec
from efface.methods.crce import Config, crce
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.training.run import Run

GUN = Concept("gun", retain_prompts=("a cat", "a hog"))
FEW_STEPS = {
    "steps": 2,
    "num_inference_steps": 2,
    "trajectories_per_prompt": 1,
    "learning_rate": 1e-2,
    "target_modules": "cross_all",
}


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return write(tmp_path / "words.yaml", 1.0)


def write(path: Path, certainty: float) -> Path:
    path.write_text(f"gun: {{coreferents: {{rod: {certainty}, gat: {certainty}}}, retained: {{dog: {certainty}}}}}")
    return path


def erase(model: StableDiffusionModel, path: Path | str, **settings: object) -> Run:
    run = Run(spec=RunSpec("tiny", model.fingerprint(), "crce", {}, (GUN,)))
    config = Config(**{**FEW_STEPS, "coreference_file": str(path), **settings})  # type: ignore[arg-type]
    crce(model, [GUN], config, run)
    return run


@pytest.mark.parametrize("erase_from", [False, True])
def test_retained_words_have_no_loss_before_the_first_update(
    model: StableDiffusionModel, words: Path, erase_from: bool
) -> None:
    run = erase(model, words, coreferent_weight=2.0, retained_weight=3.0, retain_weight=5.0, erase_from=erase_from)
    first, second = run.history["train"]
    assert first["retained"] == pytest.approx(0.0, abs=1e-9) != second["retained"]
    assert first["coreferents"] > 0 < first["concept"]
    parts = second["concept"] + 2 * second["coreferents"] + 3 * second["retained"] + 5 * second["retain"]
    assert second["loss"] == pytest.approx(parts)
    assert run.notes["domain_words"] == {"gun": ["rod", "gat"]}


def test_a_certainty_scales_the_loss_of_its_word(model: StableDiffusionModel, words: Path, tmp_path: Path) -> None:
    certain = erase(model, words, num_coreferents=2).history["train"][0]
    doubtful = erase(model, write(tmp_path / "w.yaml", 0.25), num_coreferents=2).history["train"][0]
    assert doubtful["coreferents"] == pytest.approx(certain["coreferents"] / 4)
    assert doubtful["concept"] == pytest.approx(certain["concept"])


def test_without_a_file_it_reads_the_vocabulary(model: StableDiffusionModel) -> None:
    run = erase(model, "", domain_images=4, vocabulary_words=1)
    assert run.notes["domain_words"] == {"gun": ["dog"]}, "cat is in a retain prompt"
    assert run.notes["retained_words"] == {"gun": ["cat"]}


def test_a_missing_file_is_refused(model: StableDiffusionModel, tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match=r"missing\.yaml"):
        erase(model, tmp_path / "missing.yaml")
