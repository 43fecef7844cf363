"""ELIDE's losses, mined words, report, and errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.tiny import TEMPLATES, WIDTH, erasure_of, tiny_model, tiny_of
from helpers.tiny_flow import tiny_flow_of
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.spec import RunSpec
from efface.methods.elide import Config, elide
from efface.models.conditioning import Conditioning
from efface.models.editable import EditableModel
from efface.ops.editing.apply import applied
from efface.ops.elide.conditioning_distance import ConditioningDistance
from efface.ops.elide.state_targets import StateTargets
from efface.ops.training.run import Run

CONCEPT = Concept("gun", retain_prompts=("x", "my x"), template_library=TEMPLATES)
FEW_STEPS: dict[str, Any] = {
    "steps": 4,
    "warmup_steps": 2,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "attack_batch_size": 2,
    "attack_steps": 2,
    "domain_batch_size": 2,
    "domain_images": 0,
    "vocabulary_batch_size": 2,
    "measure_every": 2,
    "ambiguous_fraction": 0.0,
}


def erase(model: EditableModel, *concepts: Concept, **settings: Any) -> tuple[Erasure, Run]:
    concepts = concepts or (CONCEPT,)
    run = Run(seed=0, spec=RunSpec("tiny", {}, "elide", {}, concepts))
    return elide(model, concepts, Config(**{**FEW_STEPS, **settings}), run), run


def state_change(model: EditableModel, erasure: Erasure, prompt: str) -> Tensor:
    """The change of a prompt's states, ``(L, D)``."""
    with torch.no_grad():
        before = model.encode([prompt]).states[0]
        with applied(model, erasure_of(model, list(erasure.edits), dict(erasure.tensors))):
            return model.encode([prompt]).states[0] - before


def test_the_erased_concept_is_read_as_if_it_were_absent_and_other_words_stay() -> None:
    model = tiny_model()
    erasure, run = erase(model, steps=80, warmup_steps=40, learning_rate=3e-3, batch_size=4)
    steps = run.history["train"]
    assert steps[0]["concept"] == pytest.approx(1, abs=1e-4)
    assert steps[-1]["concept"] < 0.6
    assert "attack" not in steps[39]
    assert "attack" in steps[40]
    assert steps[-1]["vocabulary"] < 0.3 > steps[-1]["retain"]
    gun, cat = (state_change(model, erasure, prompt).square().mean() for prompt in ("a gun", "a cat"))
    assert gun > 2 * cat, "the concept moves more than a held word"


def test_mined_words_are_erased_and_reported() -> None:
    model = tiny_model()
    _, run = erase(model, replace(CONCEPT, retain_prompts=("a cat", "x")), domain_images=4)
    assert run.notes["domain_words"] == {"gun": ["dog"]}
    assert run.history["train"][0]["domain"] == pytest.approx(1, abs=1e-4)
    assert set(run.notes["most_drifted_words"]) == {"cat"}


def test_words_that_no_concept_names_are_held_and_their_drift_is_reported() -> None:
    _, run = erase(tiny_model(), CONCEPT, replace(CONCEPT, name="dog", retain_prompts=("x",)))
    drift = run.notes["most_drifted_words"]
    assert set(drift) == {"cat"}
    assert drift["cat"] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ambiguous_fraction": 1.0}, "lower ambiguous_fraction"),
        ({"domain_images": 1}, "increase domain_images"),
        ({"domain_images": 4, "image_tower": "nowhere/"}, "no classifier"),
    ],
)
def test_invalid_settings_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EffaceError, match=message):
        erase(tiny_model(), **settings)


def test_a_vocabulary_without_whole_words_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(model, "vocabulary_words", lambda *, whole_only=False: ["ab", "x1"])
    with pytest.raises(EffaceError, match="has no whole words besides 'gun'"):
        erase(model)


@pytest.mark.slow
def test_on_sdxl_both_encoders_change_more_for_the_concept_than_for_retain_prompts() -> None:
    model = tiny_of("sdxl")
    erasure, _ = erase(model, steps=60, warmup_steps=60, learning_rate=1e-3, batch_size=4)
    assert [edit.component for edit in erasure.edits] == ["text_encoder", "text_encoder_2"]
    gun, retained = (state_change(model, erasure, prompt) for prompt in ("a gun", "my x"))
    for encoder in (slice(WIDTH), slice(WIDTH, None)):
        assert float(retained[..., encoder].norm()) < 0.7 * float(gun[..., encoder].norm())


WITH_ATTACK = {"steps": 40, "warmup_steps": 30, "learning_rate": 3e-3, "domain_images": 4}


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("flux", {"steps": 15, "warmup_steps": 15, "learning_rate": 5e-3}),
        pytest.param("flux", WITH_ATTACK, marks=pytest.mark.slow),
        pytest.param("sd3", WITH_ATTACK, marks=pytest.mark.slow),
    ],
)
def test_clip_and_t5_move_towards_the_prompt_without_the_concept(family: str, settings: dict[str, Any]) -> None:
    model = tiny_flow_of(family)
    distance = ConditioningDistance(model)
    targets = StateTargets(model, {"gun": TEMPLATES}, distance)
    retained = model.tokenize(["x", "my x", "a cat"])
    with torch.no_grad():
        original = model.encode(retained)
    erasure, run = erase(model, **settings, batch_size=4)
    assert run.history["train"][0]["concept"] == pytest.approx(1, abs=1e-4)
    assert {edit.component for edit in erasure.edits} == {encoder.component for encoder in model.encoders}
    with torch.no_grad(), applied(model, erasure_of(model, list(erasure.edits), dict(erasure.tensors))):
        named, kept = model.encode(targets.prompts), model.encode(retained)

    def share(now: Conditioning, before: Conditioning, scales: list[Tensor]) -> list[float]:
        parts = zip(distance(now, before), scales, strict=True)
        return [float((part / scale).mean()) for part, scale in parts]

    left = share(named, targets.targets, targets.scales)
    drift = share(kept, original, [scale.mean() for scale in distance.from_empty(original)])
    assert max(left) < 0.8, f"each part of the concept's conditioning moves: {left}"
    assert max(drift) < 0.4, f"each part of the retained prompts' conditioning stays: {drift}"
