"""Drafts for pocket: the judge's classes where it knows the concept, else zero-shot CLIP."""

from __future__ import annotations

import pytest

from efface.benchmarks.benchmark_validation import validate_benchmark
from efface.benchmarks.new_benchmark import draft_benchmark
from efface.benchmarks.pocket_draft import judge_target
from efface.core.concept import Concept, find_mention
from efface.core.errors import EffaceError
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel
from efface.pocket_world import load_split, load_world


@pytest.fixture(scope="module")
def pocket() -> StableDiffusionModel:
    return load_model("pocket")


@pytest.mark.parametrize(
    ("concept", "head", "classes"),
    [
        ("Dog", "object", {"dog"}),
        ("gun", "object", {"pistol"}),
        ("snack", "object", set(load_world().members("food"))),
        ("sketch", "style", {"sketch"}),
    ],
)
def test_the_judge_knows_names_synonyms_categories_and_styles(
    concept: str, head: str, classes: set[str] | None
) -> None:
    target = judge_target(Concept(concept))
    assert target is not None
    assert (target.head, set(target.classes)) == (head, classes)
    assert find_mention("\n".join(target.domain), [concept]) is None
    assert judge_target(Concept("pirate")) is None


@pytest.mark.parametrize(("name", "detector"), [("dog", "pocket-judge"), ("pirate", "zero-shot:pocket-clip")])
def test_a_draft_scores_held_out_objects(name: str, detector: str, pocket: StableDiffusionModel) -> None:
    benchmark = draft_benchmark(pocket, Concept(name), domain=["something that barks"])
    validate_benchmark(benchmark)
    assert benchmark.detector == detector
    world, heldout = load_world(), load_split().heldout
    scored = {c for s in benchmark.samples(groups=("near", "other")) for c in s.expected["object"]}
    objects = {item.id for item in world.object_classes.values() if {item.id, item.name} & scored}
    assert len(objects) == 12
    assert objects <= set(heldout)
    for item in objects:
        words = (*world.object_classes[item].names, *world.object_classes[item].rare)
        assert find_mention("\n".join(benchmark.concept.retain_prompts), words) is None


def test_retain_prompts_of_the_concept_are_not_scored(pocket: StableDiffusionModel) -> None:
    concept = Concept("dog", retain_prompts=("a lion and a cat",))
    samples = draft_benchmark(pocket, concept, domain=["a hound"]).samples(groups=("near", "other"))
    assert {"lion", "cat"}.isdisjoint(c for sample in samples for c in sample.expected["object"])
    retained = [f"a photo of a {item.name}" for item in load_world().object_classes.values() if item.id != "dog"]
    with pytest.raises(EffaceError, match="give fewer retain prompts"):
        draft_benchmark(pocket, Concept("dog", retain_prompts=tuple(retained)), domain=["a hound"])
