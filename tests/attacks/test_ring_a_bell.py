"""Parts of Ring-A-Bell's genetic search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.tiny import tiny_model
from helpers.tiny_flow import tiny_flow_of

from efface.attacks.ring_a_bell import Config, concept_vector, evolve, ring_a_bell
from efface.core.attack_set import AttackTask
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.text.soft_prompts import single_token_ids


@torch.no_grad()
@pytest.mark.parametrize("make_model", [tiny_model, partial(tiny_flow_of, "flux"), partial(tiny_flow_of, "sd3")])
def test_the_search_finds_words_near_the_target(make_model: Callable[[], EditableModel]) -> None:
    model = make_model()
    vocabulary, empty = single_token_ids(model), model.tokenize([""])
    target = model.encode(replace(model.tokenize(["cat gun"]), clip=empty.clip)).states[0]
    distances = []
    for population, generations in ((4, 1), (40, 40)):
        config = Config(num_tokens=2, population=population, generations=generations)
        generator = torch.Generator().manual_seed(0)
        words, distance = evolve(model.encode, empty, vocabulary, target, config, generator)
        assert set(words.tolist()) <= set(vocabulary.tolist())
        distances.append(distance)
    assert distances[1] < 1e-9 < distances[0], "two words can be found exactly"
    assert model.detokenize(words.tolist()) == "cat gun"


@torch.no_grad()
def test_concept_vector_is_a_mean_over_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    model, templates = tiny_model(), ("a {} in the x", "x {} on the x", "a {}")
    monkeypatch.setattr("efface.attacks.ring_a_bell.template_library", lambda kind: templates)
    with_concept = model.encode(["a gun in the x", "x gun on the x"]).states
    without_concept = model.encode(["the x", "x the x"]).states
    torch.testing.assert_close(concept_vector(model.encode, Concept("gun")), (with_concept - without_concept).mean(0))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [({"num_tokens": 15}, "num_tokens must be 1 to 14, not 15"), ({"population": 3}, "population must be at least 4")],
)
def test_invalid_settings_are_errors(overrides: dict[str, int], message: str) -> None:
    tasks = (AttackTask("my gun", "my {}", 1),)
    with pytest.raises(EffaceError, match=message):
        ring_a_bell(tiny_model(), Concept("gun"), tasks, Config(**{"num_tokens": 2, **overrides}), AttackContext())
