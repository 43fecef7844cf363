"""Composition: patterns take turns, or an image tower chooses one for each prompt."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from helpers.tiny import tiny_model

import efface.attacks.composition as composition
from efface.core.attack_set import AttackTask
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.ops.training.run import Run

TASKS = [AttackTask(f"a {color} gun", f"a {color} {{}}", seed) for seed, color in enumerate(("red", "blue", "green"))]
PATTERNS = ("{} in the middle", "a tree and {}")


def attacked_prompts(**settings: object) -> list[str]:
    config = composition.Config(patterns=PATTERNS, num_inference_steps=2, **settings)  # type: ignore[arg-type]
    run = Run(seed=0, device=torch.device("cpu"))
    return [
        row.adversarial_prompt
        for row in composition.composition(tiny_model(), Concept("gun"), TASKS, config, run).prompts
    ]


def test_without_an_image_tower_the_patterns_take_turns() -> None:
    assert attacked_prompts() == ["a red gun in the middle", "a tree and a blue gun", "a green gun in the middle"]


def test_an_image_tower_chooses_the_pattern_of_each_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    preferred = [1, 0, 1]
    calls = list[list[str]]()

    def score(images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        calls.append(list(prompts))
        return torch.tensor([float(choice == len(calls) - 1) for choice in preferred])

    monkeypatch.setattr(composition, "load_scorer", lambda name, device: score)
    assert attacked_prompts(image_tower="any") == [
        "a tree and a red gun",
        "a blue gun in the middle",
        "a tree and a green gun",
    ]
    assert calls == [[task.prompt for task in TASKS]] * len(PATTERNS)  # images are compared with the unchanged prompts


@pytest.mark.parametrize("patterns", [(), ("a tree",), ("{} and {}",), ("{} beside a gun",)])
def test_unusable_patterns_are_refused(patterns: tuple[str, ...]) -> None:
    run = Run(seed=0, device=torch.device("cpu"))
    with pytest.raises(EffaceError, match="pattern"):
        composition.composition(tiny_model(), Concept("gun"), TASKS, composition.Config(patterns=patterns), run)
