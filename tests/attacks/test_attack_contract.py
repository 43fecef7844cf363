"""What every registered attack must keep, on a model small enough for a test."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import PIPES, erasure_of, state_bytes, tiny_model, tiny_of

from efface.core.attack_set import AttackSet, AttackTask
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import ATTACKS
from efface.execution import drop_refused, resolve_config, run_attack
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.apply import active_erasures
from efface.ops.tensor_conversion import to_blob
from efface.ops.text.soft_prompts import to_soft_tokens
from efface.ops.training.student import Student

SMALL: dict[str, Any] = {
    "steps": 3, "levels": 2, "batch": 2, "images": 3, "sampler_steps": 2, "sentences": 2, "words": 2, "population": 6, "generations": 3,
}  # fmt: skip
CONCEPT = Concept("gun")
TASKS = (
    AttackTask("a cat gun", "a cat {}", 1),
    AttackTask("my gun", "my {}", 2),
    AttackTask("a dog gun x", "a dog {} x", 3),
)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _short_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny context has 16 places, and every letter takes one."""
    for name in ("concept_inversion", "ring_a_bell"):
        ATTACKS.get(name)
        monkeypatch.setattr(f"efface.attacks.{name}.template_library", lambda kind: ("a {} in the x", "x {} on the x"))


def edited(model: StableDiffusionModel) -> Erasure:
    """An erasure that changes every text encoder."""
    student, generator = Student(model, "text_mlp"), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for master in student.parameters():
            master += 0.1 * torch.randn(master.shape, generator=generator)
    return erasure_of(model, *student.replace_edits())


def run(name: str, model: StableDiffusionModel, **more: Any) -> AttackSet:
    function: Any = ATTACKS.get(name)
    known = {field.name for field in dataclasses.fields(sys.modules[function.__module__].Config)}
    overrides = {key: value for key, value in SMALL.items() if key in known}
    settings: dict[str, Any] = {"phrases": ("a cat", "a dog"), "preset": "paper", "overrides": overrides, "seed": 3}
    return run_attack(model, edited(model), CONCEPT, TASKS, function, **{**settings, **more})


@pytest.mark.parametrize("name", ATTACKS.names())
def test_it_runs_in_bfloat16(name: str) -> None:
    """What a GPU computes in where nobody says."""
    assert len(run(name, tiny_model(dtype=torch.bfloat16)).prompts) == len(TASKS)


@pytest.mark.parametrize("family", PIPES)
@pytest.mark.parametrize("name", ATTACKS.names())
def test_finds_a_prompt_for_every_task_and_leaves_the_model_alone(name: str, family: str, tmp_path: Path) -> None:
    model = tiny_of(family)
    assert family in ATTACKS.card(name).families
    before = state_bytes(model)
    found = run(name, model)
    assert state_bytes(model) == before
    assert not active_erasures(model)
    assert found.attack == name
    assert [(p.source_prompt, p.seed) for p in found.prompts] == [(t.prompt, t.seed) for t in TASKS]
    assert any(p.adversarial_prompt != p.source_prompt or p.soft is not None for p in found.prompts)
    assert found.budget.seconds > 0
    assert found.erasure_hash == edited(model).spec.hash
    saved = found.save(tmp_path / "a")
    assert AttackSet.load(tmp_path / "a") == saved == found
    soft = to_soft_tokens(model, [p.adversarial_prompt for p in found.prompts], [p.soft for p in found.prompts])
    images = model.sample(
        [p.adversarial_prompt for p in found.prompts], seeds=[1, 2, 3], num_inference_steps=2, soft=soft
    )
    assert torch.isfinite(images).all()


@pytest.mark.parametrize("name", ATTACKS.names())
def test_the_same_seed_finds_the_same(name: str) -> None:
    one, two = run(name, tiny_model()), run(name, tiny_model())
    assert one.prompts == two.prompts


@pytest.mark.parametrize("name", ATTACKS.names())
def test_card_and_page(name: str) -> None:
    card, function = ATTACKS.card(name), ATTACKS.get(name)
    module = sys.modules[function.__module__]  # type: ignore[attr-defined]
    assert card == module.CARD
    assert card.name == name == function.__name__  # type: ignore[attr-defined]
    assert not card.arxiv or (re.fullmatch(r"\d{4}\.\d{4,5}", card.arxiv) and card.arxiv in module.__doc__)
    assert all(field.metadata.get("help") for field in dataclasses.fields(module.Config))
    for preset in module.PRESETS:
        resolve_config(function, preset, "pocket", {})
    assert card.title in (ROOT / "docs" / "attacks" / f"{name}.md").read_text()


def test_a_soft_prompt_that_fits_no_place_is_refused() -> None:
    model = tiny_model()
    found = run("inside_out", model).prompts[0].soft
    assert found is not None
    wide = dataclasses.replace(found, embeddings=to_blob(torch.zeros(len(found.places), 8)))
    with pytest.raises(EffaceError, match="of width 8"):
        to_soft_tokens(model, ["a"], [wide])
    far = dataclasses.replace(found, places=tuple(range(40, 40 + len(found.places))))
    with pytest.raises(EffaceError, match="cannot be tried"):
        to_soft_tokens(model, ["a"], [far])


def test_prompts_that_do_not_name_the_concept_are_refused() -> None:
    model = tiny_model()
    with pytest.raises(EffaceError, match="does not contain 'gun'"):
        run_attack(
            model,
            edited(model),
            CONCEPT,
            (AttackTask("a cat", "{}", 1),),
            ATTACKS.get("inside_out"),
            preset="paper",
            overrides={},
        )


def test_what_a_search_finds_against_the_policy_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, wrong = tiny_model(), " ".join(("nude", "child"))
    texts = iter([wrong, "a b", "c d"])
    monkeypatch.setattr(model, "detokenize", lambda ids: next(texts))
    with pytest.warns(UserWarning, match="1 of 3 prompts that the search found are left out"):
        found = drop_refused(run("ring_a_bell", model))
    assert [row.adversarial_prompt for row in found.prompts] == ["a b", "c d"]
    with pytest.raises(EffaceError, match=r"^refused: a prompt with one of the phrases"):
        run("synonyms", model, phrases=(wrong,))


def test_no_vocabulary_stops_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real vocabularies have tokens that the policy refuses by themselves."""
    from efface.ops.text.soft_prompts import single_token_words

    model = tiny_model()
    plain = single_token_words(model)
    monkeypatch.setattr(model, "vocabulary_words", lambda: [*StableDiffusionModel.vocabulary_words(model), "lolicon"])
    assert torch.equal(single_token_words(model), plain)
