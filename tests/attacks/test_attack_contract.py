"""The contract of every registered attack, on a tiny model."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.edits import every_op, trained
from helpers.tiny import erasure_of, state_bytes, tiny_model, tiny_of
from helpers.tiny_flow import FLOW_PIPES, tiny_flow_of

from efface.core.attack_set import AttackSet, AttackTask
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import ATTACKS
from efface.execution import drop_refused, resolve_config, run_attack
from efface.ops.editing.apply import active_erasures
from efface.ops.text.soft_prompts import to_soft_tokens

SMALL: dict[str, Any] = {
    "steps": 3,
    "num_timesteps": 2,
    "batch_size": 2,
    "num_images": 3,
    "num_scales": 1,
    "num_inference_steps": 2,
    "num_templates": 2,
    "num_tokens": 2,
    "population": 6,
    "generations": 3,
    "candidates": 6,
    "top_words": 4,
    "check_every": 2,
    "iterations": 2,
    "steps_before": 1,
    "rank": 2,
    "first_layer": 1,
    "first_step": 1,
}
IMAGE_ATTACKS = tuple(
    name
    for name in ATTACKS.names()
    if ATTACKS.card(name).kinds == ("image models",) and ATTACKS.card(name).families != ("janus",)
)
"""Attacks on models with a denoiser; files of their own test those on language models and on Janus-type models."""
FAMILIES = ["sd1", "flux", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sd2", "sdxl", "sd3"))]
CONCEPT = Concept("gun")
TASKS = (
    AttackTask("a cat gun", "a cat {}", 1),
    AttackTask("my gun", "my {}", 2),
    AttackTask("a dog gun x", "a dog {} x", 3),
)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _short_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny context has 16 tokens, and every letter is one."""
    for name in ("attacks.concept_inversion", "attacks.ring_a_bell", "ops.adversarial.start_latents"):
        module = importlib.import_module(f"efface.{name}")
        monkeypatch.setattr(module, "template_library", lambda kind: ("a {} in the x", "x {} on the x"))


def text_erasure(model: Any) -> Erasure:
    """An erasure that changes every text encoder."""
    return erasure_of(model, *trained(model, "text_mlp", 0.1).replace_edits())


def run(name: str, model: Any, **changes: Any) -> AttackSet:
    function: Any = ATTACKS.get(name)
    known = {field.name for field in dataclasses.fields(sys.modules[function.__module__].Config)}
    overrides = {key: value for key, value in SMALL.items() if key in known}
    settings: dict[str, Any] = {"phrases": ("a cat", "a dog"), "preset": "paper", "overrides": overrides, "seed": 3}
    return run_attack(model, text_erasure(model), CONCEPT, TASKS, function, **{**settings, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE_ATTACKS)
def test_runs_in_bfloat16(name: str) -> None:
    """bfloat16 is the default dtype on a GPU."""
    assert len(run(name, tiny_model(dtype=torch.bfloat16)).prompts) == len(TASKS)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", IMAGE_ATTACKS)
def test_finds_a_prompt_for_every_task_and_does_not_change_the_model(name: str, family: str, tmp_path: Path) -> None:
    model = tiny_flow_of(family) if family in FLOW_PIPES else tiny_of(family)
    if family not in ATTACKS.card(name).families:
        with pytest.raises(EffaceError, match=f"{name} does not support {family} models such as {model.name}: it"):
            run(name, model)
        return
    before = state_bytes(model)
    attack_set = run(name, model)
    assert state_bytes(model) == before
    assert not active_erasures(model)
    assert attack_set.attack == name
    assert [(p.source_prompt, p.seed) for p in attack_set.prompts] == [(t.prompt, t.seed) for t in TASKS]
    changed = (p.adversarial_prompt != p.source_prompt or p.soft or p.start for p in attack_set.prompts)
    assert any(changed) or attack_set.edits
    assert attack_set.budget.seconds > 0
    assert attack_set.erasure_hash == text_erasure(model).spec.hash
    saved = attack_set.save(tmp_path / "a")
    assert AttackSet.load(tmp_path / "a") == saved == attack_set
    soft = to_soft_tokens(model, [p.soft for p in attack_set.prompts])
    prompts = [p.adversarial_prompt for p in attack_set.prompts]
    images = model.sample(prompts, seeds=[1, 2, 3], num_inference_steps=2, soft=soft)
    assert torch.isfinite(images).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE_ATTACKS)
def test_the_same_seed_gives_the_same_prompts(name: str) -> None:
    assert run(name, tiny_model()).prompts == run(name, tiny_model()).prompts


@pytest.mark.parametrize("name", [name for name in IMAGE_ATTACKS if ATTACKS.card(name).ignores_erasure])
def test_finds_the_same_prompts_on_every_erasure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(name, tiny_model()).prompts
    monkeypatch.setattr(sys.modules[__name__], "text_erasure", every_op)
    assert run(name, tiny_model()).prompts == found


@pytest.mark.parametrize("name", ATTACKS.names())
def test_card_configuration_and_page(name: str) -> None:
    card, function = ATTACKS.card(name), ATTACKS.get(name)
    module = sys.modules[function.__module__]  # type: ignore[attr-defined]
    assert card == module.CARD
    assert card.name == name == function.__name__  # type: ignore[attr-defined]
    assert not card.arxiv or (re.fullmatch(r"\d{4}\.\d{4,5}", card.arxiv) and card.arxiv in module.__doc__)
    assert all(field.metadata.get("help") for field in dataclasses.fields(module.Config))
    for preset in module.PRESETS:
        resolve_config(function, preset, "pocket", {})
    assert card.title in (ROOT / "docs" / "attacks" / f"{name}.md").read_text()


def test_prompts_that_do_not_name_the_concept_are_refused() -> None:
    model, tasks = tiny_model(), (AttackTask("a cat", "{}", 1),)
    with pytest.raises(EffaceError, match="does not contain 'gun'"):
        run_attack(model, text_erasure(model), CONCEPT, tasks, ATTACKS.get("inside_out"), overrides={})


def test_prompts_that_the_policy_refuses_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, refused = tiny_model(), " ".join(("nude", "child"))
    texts = iter([refused, "a b", "c d"])
    monkeypatch.setattr(model, "detokenize", lambda ids: next(texts))
    with pytest.warns(UserWarning, match="the content policy refuses 1 of 3 prompts"):
        attack_set = drop_refused(run("ring_a_bell", model))
    assert [row.adversarial_prompt for row in attack_set.prompts] == ["a b", "c d"]
    with pytest.raises(EffaceError, match=r"^refused: a prompt with one of the phrases"):
        run("synonyms", model, phrases=(refused,))
