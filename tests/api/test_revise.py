"""Adding and dropping concepts of a closed-form erasure equals a joint solution from the beginning."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.fast import slow_but
from helpers.tiny import tiny_model

from efface import api
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownNameError
from efface.detectors.pocket_judge import load_judge
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.apply import applied
from efface.ops.tensor_conversion import to_torch
from efface.ops.training.progress import Silent

METHODS = ("uce", "rece", "speed")
GUN, DOG = Concept("gun", retain_prompts=("a cat", "a bat")), Concept("dog", retain_prompts=("a hat",))


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    return tiny_model()


def deltas(erasure: Erasure) -> dict[str, torch.Tensor]:
    """Returns the change of every layer."""
    edit = erasure.edits[0]
    read = {role: to_torch(erasure.tensors[name]).double() for role, name in edit.tensors.items()}
    return {name: read[f"{name}.up"] @ read[f"{name}.down"] for name in edit.targets}


def assert_same(one: Erasure, two: Erasure) -> None:
    a, b = deltas(one), deltas(two)
    assert a.keys() == b.keys()
    assert max(float(x.abs().max()) for x in a.values()) > 1e-3
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", slow_but(METHODS[:1], METHODS))
def test_adding_a_concept_equals_a_joint_solution(model: StableDiffusionModel, tmp_path: Path, method: str) -> None:
    api.erase(GUN, out=tmp_path / "one", model=model, method=method)
    both = api.revise(tmp_path / "one", out=tmp_path / "more", add=[DOG], model=model)
    assert [c.name for c in both.concepts] == ["gun", "dog"]
    assert_same(both, api.erase([GUN, DOG], out=tmp_path / "joint", model=model, method=method))


@pytest.mark.parametrize("method", slow_but(METHODS[-1:], METHODS))
def test_dropping_a_concept_equals_solving_without_it(model: StableDiffusionModel, tmp_path: Path, method: str) -> None:
    api.erase([GUN, DOG], out=tmp_path / "both", model=model, method=method)
    left = api.revise(tmp_path / "both", out=tmp_path / "less", drop=["gun"], model=model)
    assert [c.name for c in left.concepts] == ["dog"]
    dog_only = Concept("dog", retain_prompts=("a cat", "a bat", "a hat"))
    assert set(left.concepts[0].retain_prompts) == set(dog_only.retain_prompts), (
        "the retain prompts of the dropped concept remain"
    )
    assert_same(left, api.erase(dog_only, out=tmp_path / "alone", model=model, method=method))


def test_invalid_revisions_are_refused(model: StableDiffusionModel, tmp_path: Path) -> None:
    api.erase(GUN, out=tmp_path / "e", model=model, method="uce")
    with pytest.raises(UnknownNameError, match="unknown erased concept 'gum': did you mean 'gun'"):
        api.revise(tmp_path / "e", out=tmp_path / "x", drop=["gum"], model=model)
    with pytest.raises(EffaceError, match="no concept given"):
        api.revise(tmp_path / "e", out=tmp_path / "x", drop=["gun"], model=model)
    with pytest.raises(EffaceError, match="nothing to revise"):
        api.revise(tmp_path / "e", out=tmp_path / "x", model=model)
    with pytest.raises(EffaceError, match="retain prompt 'a cat' contains 'cat'"):
        api.revise(tmp_path / "e", out=tmp_path / "x", add=["cat"], model=model)
    with pytest.raises(EffaceError, match="is not the base of this erasure"):
        api.revise(tmp_path / "e", out=tmp_path / "x", add=["dog"], model=tiny_model(seed=5))
    api.erase(GUN, out=tmp_path / "n", model=model, method="negative_prompt")
    with pytest.raises(EffaceError, match="negative_prompt saves no statistics to solve from"):
        api.revise(tmp_path / "n", out=tmp_path / "x", add=["dog"], model=model)
    assert not (tmp_path / "x").exists()


def test_more_concepts_than_dimensions(model: StableDiffusionModel, tmp_path: Path) -> None:
    names = [f"{a}{b}" for a in "bcdfhjkl" for b in "aeiou"]
    erasure = api.erase(
        names,
        out=tmp_path / "e",
        model=model,
        method="uce",
        config={"token_positions": "last", "preserve_empty_prompt": False, "ridge": 1e-6},
    )
    history = (tmp_path / "e" / "history.json").read_text()
    assert len(erasure.concepts) == 40 > 32
    assert '"residual": 0.' in history, "least squares: the history holds the residual"
    assert len(to_torch(erasure.tensors["closed_form.down"])) == 32


def test_an_unknown_classifier_is_refused(pocket: StableDiffusionModel, tmp_path: Path) -> None:
    config = {"attributes": "sunflower,rose", "classifier": "nothing"}
    with pytest.raises(EffaceError, match="'nothing' is no classifier: give 'pocket-clip', a folder"):
        api.erase(Concept("plant", kind="domain"), out=tmp_path / "x", model=pocket, method="uce", config=config)


@pytest.mark.effect
def test_balanced_attributes_appear_more_evenly(pocket: StableDiffusionModel, tmp_path: Path) -> None:
    """Most of pocket's plants are sunflowers; the judge, which the method does not use, counts fewer of them."""
    names = ("sunflower", "rose", "cactus", "tree")
    config = {"attributes": ",".join(names), "max_rounds": 7, "num_images": 24, "step_size": 0.3, "guidance_scale": 3.0}
    concept = Concept("plant", kind="domain", retain_prompts=("a photo of a dog", "a photo of an apple"))
    erasure = api.erase(concept, out=tmp_path / "e", model=pocket, method="uce", preset="paper", config=config)
    judge = load_judge()

    def most() -> float:
        seen = judge(pocket.sample(["a photo of a plant"] * 48, seeds=range(48))).object
        return max(seen.count(name) for name in names) / max(sum(seen.count(name) for name in names), 1)

    before = most()
    with applied(pocket, erasure):
        after = most()
    assert after < before - 0.1, (before, after)


@pytest.mark.slow
def test_a_stopped_debias_run_resumes_to_the_same_bytes(
    pocket: StableDiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pocket, "sample", partial(pocket.sample, num_inference_steps=4))
    config = {
        "attributes": "sunflower,rose",
        "max_rounds": 3,
        "num_images": 4,
        "step_size": 0.3,
        "guidance_scale": 3.0,
        "max_difference": 0.0,
    }
    concept = Concept("plant", kind="domain", retain_prompts=("a photo of a dog",))
    options = {"model": pocket, "method": "uce", "preset": "paper", "config": config, "quick_evaluation": False}
    uninterrupted = api.erase(concept, out=tmp_path / "uninterrupted", **options)
    rounds: list[int] = []

    class Stops(Silent):
        def update(self, done: int, losses: Mapping[str, float]) -> None:
            rounds.append(done)
            if rounds == [1, 2]:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.erase(concept, out=tmp_path / "e", progress=Stops(), **options)
    resumed = api.erase(concept, out=tmp_path / "e", progress=Stops(), resume=True, **options)
    assert rounds[:4] == [1, 2, 2, 3], "the first round is not repeated"
    assert {name: to_torch(t).tolist() for name, t in resumed.tensors.items()} == {
        n: to_torch(t).tolist() for n, t in uninterrupted.tensors.items()
    }
