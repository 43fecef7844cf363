"""ACE: its targets and weights before the first update, and the prior prompts that it needs."""

from __future__ import annotations

import pytest

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.spec import RunSpec
from efface.methods.ace import Config, ace
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.training.run import Run

GUN = Concept("gun", retain_prompts=("a cat", "a hog"))
FEW_STEPS = {"steps": 2, "num_inference_steps": 2, "trajectories_per_prompt": 1, "learning_rate": 1e-2}


def erase(model: StableDiffusionModel, concept: Concept = GUN, **settings: object) -> list[dict[str, float]]:
    """Returns the losses of two steps."""
    run = Run(spec=RunSpec("tiny", model.fingerprint(), "ace", {}, (concept,)))
    ace(model, [concept], Config(**{**FEW_STEPS, **settings}), run)  # type: ignore[arg-type]
    return run.history["train"]


def test_both_predictions_move_by_the_guidance_in_opposite_directions(model: StableDiffusionModel) -> None:
    """Before an update, e_0 is eta (e*_c - e*_0) from its target, e_c is 1 + eta of it."""
    first, second = erase(model, correction_guidance=0.0, negative_guidance=3.0)
    assert first["uncond"] == pytest.approx(first["cond"] * (3 / 4) ** 2)
    assert first["prior"] == pytest.approx(0.0, abs=1e-9) != second["prior"]


def test_the_loss_weighs_its_parts(model: StableDiffusionModel) -> None:
    row = erase(model, uncond_weight=0.7, prior_weight=0.2)[1]
    assert row["loss"] == pytest.approx(0.8 * (0.7 * row["uncond"] + 0.3 * row["cond"]) + 0.2 * row["prior"])


def test_the_prior_prompts_correct_the_unconditional_target_alone(model: StableDiffusionModel) -> None:
    (without, _), (corrected, _) = erase(model, correction_guidance=0.0), erase(model, correction_guidance=3.0)
    assert corrected["uncond"] != pytest.approx(without["uncond"])
    assert corrected["cond"] == pytest.approx(without["cond"])


def test_it_needs_retain_prompts(model: StableDiffusionModel) -> None:
    with pytest.raises(EffaceError, match="--retain-file"):
        erase(model, Concept("gun"))
