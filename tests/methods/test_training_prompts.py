"""Prompts that training methods erase, with the phrase, anchor or images of each."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.spec import RunSpec
from efface.methods.advunlearn import Config as AdvUnlearnConfig
from efface.methods.advunlearn import _concept_prompts
from efface.methods.concept_ablation import PRESETS, Config, concept_ablation
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.text.erase_prompts import collect_erase_prompts
from efface.ops.training.run import Run
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig


def test_esd_erases_the_phrase_that_a_prompt_names() -> None:
    gun = Concept("gun", synonyms=("pistol",), templates=("a {}", "my {}"))
    assert dict(zip(*collect_erase_prompts([gun], 0), strict=True)) == {
        "a gun": "gun", "my gun": "gun", "a pistol": "pistol", "my pistol": "pistol",
    }  # fmt: skip
    described = Concept("gun", synonyms=("pistol",), prompts=("two Pistols or a Pistol", "a thing to shoot with"))
    assert collect_erase_prompts([described], 0)[1] == ("pistol", "gun")
    assert all(phrase in prompt for prompt, phrase in zip(*collect_erase_prompts([gun], 5), strict=True))


def test_advunlearn_erases_the_bare_word(model: StableDiffusionModel) -> None:
    concept = Concept("gun", synonyms=("a dog",))
    run = Run(spec=RunSpec("tiny", model.fingerprint(), "advunlearn", {}, (concept,)))
    assert _concept_prompts(model, concept, AdvUnlearnConfig(), TrajectoryConfig(1, 2), run).prompts == ("gun", "a dog")


def ablate(model: StableDiffusionModel, concepts: tuple[Concept, ...], **settings: Any) -> Run:
    few = {"steps": 2, "batch_size": 6, "num_images": 2, "num_inference_steps": 2}
    run = Run(spec=RunSpec("tiny", model.fingerprint(), "concept_ablation", {}, concepts))
    concept_ablation(model, concepts, Config(**{**few, **settings}), run)
    return run


def test_the_released_concept_ablation_weighs_ablation_to_prior_as_four_to_one(model: StableDiffusionModel) -> None:
    """The masked loss is sum(error * mask) / sum(mask), with four channels of error and one of mask."""
    error = torch.rand(3, 4, 8, 8)
    masked = ((error * torch.ones(3, 1, 8, 8)).sum((1, 2, 3)) / torch.ones(3, 1, 8, 8).sum((1, 2, 3))).mean()
    prior_weight: Any = PRESETS["nudity"]["prior_weight"]
    assert float(error.mean() / masked) == pytest.approx(prior_weight)
    row = ablate(model, (Concept("gun", anchor="dog"),), prior_weight=prior_weight).history["train"][0]
    assert row["loss"] == pytest.approx(row["ablation"] + row["prior"] / 4)


def test_concept_ablation_trains_every_concept_with_few_images(
    model: StableDiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    concepts = tuple(Concept(name, templates=("a {}", "my {}")) for name in ("gun", "dog", "cat"))
    states = {prompt: model.encode([prompt]).states for c in concepts for prompt in c.render_prompts()}
    trained: set[str] = set()
    predict = Student.predict

    def spy(student: Student, z: Any, t: Any, cond: Any, *args: Any, **kwargs: Any) -> Any:
        trained.update(p for p, state in states.items() if (cond.states == state).all((1, 2)).any())
        return predict(student, z, t, cond, *args, **kwargs)

    monkeypatch.setattr(Student, "predict", spy)
    ablate(model, concepts, steps=3)
    assert trained == set(states)
    with pytest.raises(EffaceError, match="2 images are too few for 3 concepts: set num_images to at least 3"):
        ablate(model, tuple(Concept(c.name, anchor=c.name[:2]) for c in concepts))
