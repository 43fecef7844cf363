"""The attacks on language models, on a tiny model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import content
from helpers.language_benchmark import OTHERS, question, write_benchmark
from helpers.tiny import tiny_model

from efface import api
from efface.attacks.quantisation import round_to_levels
from efface.core.errors import EffaceError
from efface.core.registry import ATTACKS
from efface.core.result import Result
from efface.execution import check_family
from efface.models.causal_lm import CausalLM

NAMES = tuple(name for name in ATTACKS.names() if ATTACKS.card(name).families == ("causal_lm",))
SETTINGS: dict[str, dict[str, Any]] = {"relearning": {"steps": 2}, "few_shot_context": {"shots": 1}}


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_is_scored_saved_and_leaves_the_model_as_it_was(
    name: str, model: CausalLM, erasure: Path, tmp_path: Path
) -> None:
    state = {key: tensor.clone() for key, tensor in model.module.state_dict().items()}
    path = write_benchmark(tmp_path)
    config = SETTINGS.get(name, {})
    attack_set = api.attack(erasure, name, path, config=config, model=model)  # type: ignore[arg-type]
    assert attack_set.prompts
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.module.state_dict().items())
    assert attack_set.folder is not None
    assert (attack_set.folder / "texts.json").is_file()
    changed = name not in ("quantisation", "relearning")
    assert all((p.adversarial_prompt != p.source_prompt) == changed for p in attack_set.prompts)


def test_what_is_saved_under_one_name_never_changes(model: CausalLM, erasure: Path, tmp_path: Path) -> None:
    easier = {"questions": {"name": [question("what is a gun ?", "it", "gun/a")] * 2, **OTHERS}}
    for measure in (api.evaluate, partial(api.attack, attack="paraphrase")):
        measure(erasure, benchmark=write_benchmark(tmp_path), model=model)  # type: ignore[operator]
        saved = content(erasure)
        measure(erasure, benchmark=write_benchmark(tmp_path), model=model)  # type: ignore[operator]
        assert content(erasure).keys() == saved.keys(), "the same result is saved once"
        measure(erasure, benchmark=write_benchmark(tmp_path, **easier), model=model)  # type: ignore[operator]
        assert content(erasure).keys() > saved.keys()
        assert saved.items() <= content(erasure).items()


def test_an_attack_with_weaker_settings_proves_no_resistance(model: CausalLM, erasure: Path, tmp_path: Path) -> None:
    path = write_benchmark(tmp_path)
    attack_set = api.attack(erasure, "paraphrase", path, config={"per_question": 1}, model=model)  # type: ignore[arg-type]
    assert attack_set.folder is not None
    (_, post) = Result.load(attack_set.folder / "result.json").scores
    assert post.provenance.extra["deviations"] == ["with per_question 1"]
    assert post.group == attack_set.folder.name == "paraphrase-on-tiny-per_question-1"


def test_options_and_attacks_of_image_models_are_refused(model: CausalLM, erasure: Path, tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="--clip belongs to image models"):
        api.evaluate(erasure, write_benchmark(tmp_path), clip="pocket-clip", model=model)  # type: ignore[arg-type]
    for measure in (api.evaluate, api.attack):
        with pytest.raises(EffaceError, match="--split belongs to image models"):
            measure(erasure, benchmark=write_benchmark(tmp_path), split="dev", model=model)  # type: ignore[operator]
    with pytest.raises(EffaceError, match="inside_out does not support causal_lm models"):
        api.attack(erasure, "inside_out", write_benchmark(tmp_path), model=model)  # type: ignore[arg-type]
    with pytest.raises(EffaceError, match=r"paraphrase does not support sd1 models .* it supports language models"):
        check_family(ATTACKS.get("paraphrase"), tiny_model())


def test_rounding_keeps_extremes_and_uses_few_levels() -> None:
    weight = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    rounded = round_to_levels(weight, 2)
    assert all(len(row.unique()) <= 4 for row in rounded)
    assert torch.allclose(rounded.amax(1), weight.amax(1))


def test_the_attack_without_a_name_is_paraphrase(model: CausalLM, erasure: Path, tmp_path: Path) -> None:
    attack_set = api.attack(erasure, benchmark=write_benchmark(tmp_path), model=model)  # type: ignore[arg-type]
    assert attack_set.attack == "paraphrase"
