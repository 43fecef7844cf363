"""The card, settings, page and file of every registered method."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from helpers.method_runs import module_of

from efface.core.registry import METHODS
from efface.execution import resolve_config

ROOT = Path(__file__).parents[2]
every_method = pytest.mark.parametrize("name", METHODS.names())


@every_method
def test_card_config_and_page(name: str) -> None:
    card, module = METHODS.card(name), module_of(name)
    assert card == module.CARD
    assert card.name == name == METHODS.get(name).__name__  # type: ignore[attr-defined]
    assert card.summary.endswith(".")
    assert re.fullmatch(r"\d{4}\.\d{4,5}", card.arxiv) or "method of this project" in card.paper
    assert card.arxiv in module.__doc__
    for preset in module.PRESETS:
        resolve_config(METHODS.get(name), preset, "pocket", {})
    assert resolve_config(METHODS.get(name), "paper", "x", {})[0] == module.Config()
    assert card.title in (ROOT / "docs" / "methods" / f"{name}.md").read_text()


@every_method
def test_a_method_is_one_file_without_side_effects(name: str) -> None:
    text = Path(module_of(name).__file__).read_text()
    assert len(text.splitlines()) <= 200
    imports = ("efface.pocket_world", "efface.methods", "efface.detectors.pocket_judge")
    for banned in (*imports, "print(", "manual_seed", "open(", "cuda"):
        assert banned not in text, banned


SHARED_FIELDS = (
    "batch_size",
    "learning_rate",
    "num_inference_steps",
    "num_templates",
    "schedule",
    "steps",
    "target",
    "target_modules",
    "trajectories_per_prompt",
)


@pytest.mark.parametrize("field", SHARED_FIELDS)
def test_fields_of_the_same_name_have_the_same_help(field: str) -> None:
    texts: dict[tuple[str, ...], set[str]] = {}
    for name in METHODS.names():
        kind = METHODS.card(name).kinds
        helps = [item.metadata["help"] for item in dataclasses.fields(module_of(name).Config) if item.name == field]
        texts.setdefault(kind, set()).update(helps)
    assert {kind: len(helps) for kind, helps in texts.items() if len(helps) > 1} == {}


@every_method
def test_help_texts_are_sentences(name: str) -> None:
    for field in dataclasses.fields(module_of(name).Config):
        assert re.fullmatch(r"[A-Z].*\.", field.metadata["help"]), field.name
