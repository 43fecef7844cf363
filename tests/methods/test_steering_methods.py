"""R.A.C.E., All but One, ANT and DoCo: their losses before the first update, their stages and their bad settings."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.spec import RunSpec
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.tensor_conversion import to_torch
from efface.ops.training.run import Run

GUN = Concept("gun", retain_prompts=("a cat", "a hog"))
FEW_STEPS = {
    "steps": 2,
    "warmup_steps": 1,
    "attack_steps": 2,
    "batch_size": 2,
    "num_images": 2,
    "num_inference_steps": 4,
    "trajectories_per_prompt": 1,
    "saliency_maps": 1,
    "saliency_steps": 1,
    "num_templates": 0,
}


def erase(
    model: StableDiffusionModel, name: str, *concepts: Concept, preset: str = "paper", **settings: Any
) -> tuple[Erasure, Run]:
    """Erases the concepts, by default a gun, in few steps, changed by a preset and the given settings."""
    module = importlib.import_module(f"efface.methods.{name}")
    fields = vars(module.Config())
    chosen = {**module.PRESETS[preset], **FEW_STEPS, **settings}
    run = Run(spec=RunSpec("tiny", model.fingerprint(), name, {}, concepts or (GUN,)))
    config = module.Config(**{key: value for key, value in chosen.items() if key in fields})
    return getattr(module, name)(model, concepts or (GUN,), config, run), run


def test_race_warms_up_without_attack_and_measures_its_change_from_there(model: StableDiffusionModel) -> None:
    _, run = erase(model, "race", preset="lasso", learning_rate=1e-2, retain_weight=1.0)
    assert len(run.history["warm-up"]) == 1
    assert "change" not in run.history["warm-up"][0]
    first, second = run.history["train"]
    assert first["change"] == 0 < second["change"]
    assert first["loss"] == pytest.approx(first["erase"] + 0.1 * first["change"] + first["retain"])
    with pytest.raises(EffaceError, match="set a radius above 0"):
        erase(model, "race", attack_radius=0.0)


def test_race_trains_other_states_than_the_prompt_s(model: StableDiffusionModel) -> None:
    losses = [erase(model, "race", warmup_steps=0, attack_radius=r)[1].history["train"][0]["erase"] for r in (1e-9, 1)]
    assert losses[0] != pytest.approx(losses[1])
    esd = erase(model, "esd", negative_guidance=1.0)[1].history["train"][0]["erase"]
    assert losses[0] == pytest.approx(esd), "without a radius it is ESD"


def test_all_but_one_moves_the_guidance_and_holds_the_unconditional_prediction(model: StableDiffusionModel) -> None:
    """Before the first update, the free loss is |G*(c)|^2, and eta adds as much again."""
    rows = {
        eta: erase(model, "all_but_one", negative_guidance=eta, learning_rate=1e-2)[1].history["train"]
        for eta in (0.0, 1.0)
    }
    free, pushed = rows[0.0][0], rows[1.0][0]
    assert free["drift"] == pytest.approx(0, abs=1e-12)
    assert pushed["guidance"] == pytest.approx(4 * free["guidance"])
    assert rows[0.0][1]["drift"] > 1e-12
    replaced = erase(model, "all_but_one", Concept("gun", anchor="cat"))[1].history["train"][0]["guidance"]
    assert replaced != pytest.approx(free["guidance"])


@pytest.mark.slow
def test_ant_keeps_one_part_and_reverses_the_other(model: StableDiffusionModel) -> None:
    """Before the first update only the reversed part has a loss, (1 + eta)^2 |G*(c)|^2."""
    first = {eta: erase(model, "ant", negative_guidance=eta)[1].history["train"][0] for eta in (0.0, 1.0)}
    for row in first.values():
        assert row["keep"] + row["keep_drift"] + row["reverse_drift"] == pytest.approx(0, abs=1e-12)
    assert first[1.0]["reverse"] == pytest.approx(4 * first[0.0]["reverse"])
    reverse, combined = (erase(model, "ant", combined_guidance=s)[1].history["train"][0]["reverse"] for s in (1.0, 7.5))
    assert combined == pytest.approx(7.5**2 * reverse)
    released = erase(model, "ant", preset="released")[1].history["train"][0]
    assert released["loss"] == pytest.approx(released["reverse"], abs=1e-9)
    assert released["reverse"] != pytest.approx(first[1.0]["reverse"]), "the early steps are reversed"


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_ant_changes_salient_weights_alone(model: StableDiffusionModel, fraction: float) -> None:
    erasure, _ = erase(model, "ant", saliency_fraction=fraction, target_modules="cross_kv", learning_rate=1e-2)
    originals = model.parameter_group("cross_kv").parameters
    for name, original in originals.items():
        changed = to_torch(erasure.tensors[f"unet.{name}"]) != original.float()
        assert int(changed.sum()) <= fraction * changed.numel()
        assert changed.any()


def test_ant_fuses_a_lora_of_each_concept(model: StableDiffusionModel) -> None:
    erasure, run = erase(model, "ant", GUN, Concept("cub"), preset="multiple", lora_rank=2)
    assert set(run.history) == {"lora 1", "lora 2", "fusion"}
    names = {name for edit in erasure.edits for name in edit.tensors}
    assert all(".attn2.to_k." in name or ".attn2.to_v." in name for name in names)


def test_ant_refuses_parts_outside_of_the_sampler_s_steps(model: StableDiffusionModel) -> None:
    for settings in ({"early_fraction": 0.0}, {"early_fraction": 1.5}, {"num_inference_steps": 1}):
        with pytest.raises(EffaceError, match="set a share between 0 and 1, and at least 2"):
            erase(model, "ant", **settings)
    with pytest.raises(UnknownNameError, match="there are first, last"):
        erase(model, "ant", kept_steps="early")


@pytest.mark.parametrize("surgery", ["projection", "released", "none"])
def test_doco_trains_the_discriminator_first(model: StableDiffusionModel, surgery: str) -> None:
    erasure, run = erase(model, "doco", surgery=surgery, learning_rate=1e-2)
    assert [len(run.history[phase]) for phase in ("discriminator", "train")] == [1, 2]
    assert all(name.startswith("unet.") for name in erasure.tensors)
    row = run.history["train"][1]
    prior = 0.1 * row["prior"] if surgery == "none" else 0
    assert row["loss"] == pytest.approx(row["adversarial"] + prior)
    assert run.history["train"][0]["adversarial"] != pytest.approx(row["adversarial"])


def test_doco_protects_the_retain_prompts(model: StableDiffusionModel) -> None:
    """Before the first update, the prior loss against the original's own predictions is 0."""
    first, second = erase(model, "doco", prior_source="retain", learning_rate=1e-2)[1].history["train"]
    assert first["prior"] < 1e-12 < second["prior"]
    with pytest.raises(EffaceError, match="needs retain prompts"):
        erase(model, "doco", Concept("gun"), prior_source="retain")
    with pytest.raises(UnknownNameError, match="unknown surgery 'exact'"):
        erase(model, "doco", surgery="exact")
