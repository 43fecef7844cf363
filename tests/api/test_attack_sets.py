"""Attack sets and evaluations live side by side: what is saved under one name never changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import content
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efface import api
from efface.core.attack_set import AttackSet
from efface.core.errors import EffaceError
from efface.core.evaluation_evidence import read_attack_results
from efface.core.result import Result
from efface.models.stable_diffusion import StableDiffusionModel


@pytest.mark.slow
def test_a_later_attack_never_replaces_an_earlier_one(
    pocket: StableDiffusionModel, artifact: Path, benchmark: Path
) -> None:
    def attack(**settings: object) -> str:
        attack_set = api.attack(artifact, "synonyms", benchmark, model=pocket, **settings)  # type: ignore[arg-type]
        assert attack_set.folder is not None
        return attack_set.folder.name

    first = attack(limit=2)
    saved = content(artifact)
    others = [
        attack(limit=1),
        attack(limit=2, seed=1),
        attack(limit=2, split="dev"),
        attack(limit=2, config={"phrases": ("a puppy",)}),
    ]
    assert attack(limit=2) == first, "the same search is saved once"
    assert len({first, *others}) == 5
    assert first == "synonyms-on-small-pocket-weapon-limit-2"
    assert others[1] == "synonyms-on-small-pocket-weapon-seed-1-limit-2"
    assert saved.items() <= content(artifact).items()
    extras = {label: result.scores[1].provenance.extra for label, result in read_attack_results(artifact).items()}
    assert all(extra["limit"] in (1, 2) for extra in extras.values())
    assert extras[others[3]]["deviations"] == ["with phrases ['a puppy']"]


@pytest.mark.slow
def test_the_same_name_with_another_result_gets_a_number(
    pocket: StableDiffusionModel, artifact: Path, benchmark: Path
) -> None:
    def evaluate() -> Result:
        return api.evaluate(artifact, benchmark, model=pocket, limit=1)

    first = evaluate()
    saved = content(artifact)
    assert evaluate().scores == first.scores
    assert content(artifact) == saved, "an equal result is saved once"
    api.attack(artifact, "synonyms", benchmark, model=pocket, limit=1)
    assert evaluate().verdict.attack != "not attacked"
    names = {path.name for path in (artifact / "evidence").glob("small-*")}
    assert names == {"small-pocket-weapon-test-20000-1", "small-pocket-weapon-test-20000-1-2"}
    assert saved.items() <= content(artifact).items()


SETTINGS = st.fixed_dictionaries(
    {
        "limit": st.sampled_from([1, 2]),
        "split": st.sampled_from(["test", "dev"]),
        "seed": st.sampled_from([0, 1]),
        "phrases": st.sampled_from([None, ("a puppy",), ("a puppy", "a tree")]),
        "brightness": st.sampled_from([0.25, 0.75]),
    }
)
"""Settings of an attack or evaluation; the brightness of the images stands for a change of the model."""


@pytest.mark.slow
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(["attack", "evaluate"]), SETTINGS), min_size=2, max_size=5))
def test_what_is_saved_under_one_name_never_changes(
    pocket: StableDiffusionModel, artifact: Path, benchmark: Path, steps: list[tuple[str, dict[str, Any]]]
) -> None:
    def sample(prompts: Sequence[str], **_: object) -> torch.Tensor:
        return torch.full((len(prompts), 3, 64, 64), brightness)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pocket, "sample", sample)
        for verb, options in steps:
            saved = content(artifact)
            brightness = options["brightness"]
            common = {"benchmark": benchmark, "model": pocket, **{k: options[k] for k in ("limit", "split", "seed")}}
            if verb == "attack":
                config = {"phrases": options["phrases"]} if options["phrases"] else {}
                api.attack(artifact, "synonyms", config=config, **common)
            else:
                api.evaluate(artifact, cache_images=False, **common)
            assert saved.items() <= content(artifact).items(), (verb, options)


def test_half_written_evidence_does_not_count(artifact: Path, benchmark: Path, pocket: StableDiffusionModel) -> None:
    folder = api.attack(artifact, "synonyms", benchmark, model=pocket, limit=1).folder
    assert folder is not None
    folder.rename(folder.with_name(f".{folder.name}.tmp-1-2"))
    assert read_attack_results(artifact) == {}
    assert "Attack: " not in api.report(artifact).read_text()


def test_a_changed_attack_set_is_refused(artifact: Path, benchmark: Path, pocket: StableDiffusionModel) -> None:
    folder = api.attack(artifact, "synonyms", benchmark, model=pocket, limit=1).folder
    assert folder is not None
    path = folder / "attack.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(EffaceError, match="changed after the attack"):
        AttackSet.load(folder)
