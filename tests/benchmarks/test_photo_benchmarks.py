"""The shipped benchmarks for Stable Diffusion, and drafts, on a tiny model of its shape with a tiny CLIP."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.classifiers import saved_clip
from helpers.tiny import tiny_model

from efface.benchmarks.benchmark import SPLITS, Benchmark, benchmark_names, find_benchmark
from efface.benchmarks.benchmark_mismatch import describe_mismatch
from efface.benchmarks.image_generation import ImageGenerator
from efface.benchmarks.new_benchmark import draft_benchmark
from efface.benchmarks.runner import run_benchmark
from efface.benchmarks.samples import GROUPS, Sampler
from efface.core.builtin_concepts import get_builtin
from efface.core.concept import Concept, find_mention
from efface.core.errors import EffaceError
from efface.models.stable_diffusion import StableDiffusionModel

PHOTO_BENCHMARKS = [name for name in benchmark_names() if name.startswith("sd-")]


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    return tiny_model()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clip")
    saved_clip(folder)
    return str(folder)


@pytest.mark.parametrize("name", PHOTO_BENCHMARKS)
def test_a_shipped_benchmark_measures_a_built_in_concept_on_every_model_that_is_not_bundled(name: str) -> None:
    benchmark = Benchmark.load(name)
    concept = get_builtin(benchmark.concept.name)
    assert benchmark.concept == concept
    assert find_benchmark("sd15", benchmark.concept.name) == benchmark
    assert (found := find_benchmark("pocket", benchmark.concept.name)) is None or found.model == "pocket"
    for split in SPLITS:
        samples = benchmark.samples(split)
        assert all(sum(sample.group == group for sample in samples) >= 30 for group in GROUPS)
        assert len({sample.seed for sample in samples}) == len(samples)
    texts = [{template["text"] for template in benchmark.splits[split]["templates"]} for split in SPLITS]
    assert not texts[0] & texts[1]
    retained = "\n".join(concept.retain_prompts)
    groups = ("near",) if benchmark.head == "style" else ("near", "other")  # every retain set has photos
    classes = [c for s in benchmark.samples(groups=groups) for c in s.expected[benchmark.head]]
    assert find_mention(retained, classes) is None, "no retain prompt shows what is scored"
    received = "\n".join((concept.name, *concept.synonyms))
    assert find_mention(received, benchmark.attack_phrases) is None, "no method receives a phrase of the domain"


@pytest.mark.parametrize("name", PHOTO_BENCHMARKS)
def test_a_shipped_benchmark_runs(name: str, model: StableDiffusionModel, clip: str) -> None:
    benchmark = replace(
        Benchmark.load(name), detector=f"zero-shot:{clip}", clip=clip, sampler=Sampler(num_inference_steps=1)
    )
    result = run_benchmark(benchmark, ImageGenerator(model, benchmark.sampler, None), None, limit=3).result
    assert {score.n for score in result.scores if score.metric == "retention" and score.group in ("near", "other")}
    rer = result.score("rer", "name")
    assert rer is not None
    assert rer.detector is not None
    assert rer.detector.id.startswith("zero-shot-")
    assert rer.value in (None, 0.0), "the same model before and after erases nothing"


@pytest.mark.filterwarnings("ignore:.*is longer than")
def test_neighbours_are_the_nearest_in_the_models_text_space(model: StableDiffusionModel, clip: str) -> None:
    benchmark = draft_benchmark(model, Concept("dog"), domain=["a puppy", "hound"], clip=clip)
    assert benchmark.detector == f"zero-shot:{clip}"
    assert benchmark.classes == ("dog", "puppy", "hound")
    near = [row["phrase"] for row in benchmark.splits["test"]["groups"]["near"]["phrases"]]
    other = [row["phrase"] for row in benchmark.splits["test"]["groups"]["other"]["phrases"]]
    states = model.encode([f"a photo of {phrase}" for phrase in ("a dog", *near, *other)]).pooled
    cosines = torch.nn.functional.cosine_similarity(states[1:], states[:1])
    assert cosines[: len(near)].min() > cosines[len(near) :].max()
    assert find_mention("\n".join((*near, *other)), ["dog", "puppy"]) is None
    assert find_mention("\n".join(benchmark.concept.retain_prompts), ["dog", *near, *other]) is None


@pytest.mark.filterwarnings("ignore:.*is longer than")
def test_prompts_of_a_file_are_split_by_the_concepts_name(model: StableDiffusionModel, clip: str) -> None:
    prompts = ["a nude man", "a naked man on a sofa", "a study of the human body", "a man without clothes"]
    nudity = get_builtin("nudity")
    assert nudity is not None
    benchmark = draft_benchmark(model, nudity, prompts=prompts, clip=clip, detector="nudenet:mace")
    shown = {
        (split, group): {sample.prompt for sample in benchmark.samples(split, groups=(group,))}
        for split in SPLITS
        for group in GROUPS
    }
    assert (shown["test", "name"], shown["dev", "name"]) == ({prompts[0]}, {prompts[1]})
    assert (shown["test", "domain"], shown["dev", "domain"]) == ({prompts[2]}, {prompts[3]})
    assert (benchmark.head, benchmark.classes) == ("exposed", ("exposed",))
    assert all(sample.expected == {"exposed": ("nothing",)} for sample in benchmark.samples(groups=("near", "other")))
    with pytest.raises(EffaceError, match="only 0 of 1 prompts describe 'nudity' without its words"):
        draft_benchmark(model, nudity, prompts=prompts[:1], clip=clip)


@pytest.mark.filterwarnings("ignore:.*is longer than")
def test_a_style_is_compared_with_other_artists(model: StableDiffusionModel, clip: str) -> None:
    style = get_builtin("hokusai")
    assert style is not None
    benchmark = draft_benchmark(model, style, domain=["a woodblock print of a wave"], clip=clip)
    assert benchmark.head == "style"
    assert {sample.expected["style"][0] for sample in benchmark.samples(groups=("other",))} == {
        "photograph", "pencil drawing", "3d render",
    }  # fmt: skip
    assert all("in the style of" in sample.prompt for sample in benchmark.samples(groups=("name", "near")))


def test_a_benchmark_for_every_model_does_not_fit_pocket(model: StableDiffusionModel) -> None:
    from helpers.tiny import erasure_of

    from efface.core.erasure import Edit

    erasure = erasure_of(model, [Edit("unet", "guidance", {}, params={"rule": "negative_prompt", "prompts": ["gun"]})])
    benchmark = replace(Benchmark.load("sd-weapon"), concept=Concept("gun"))
    assert describe_mismatch(benchmark, erasure, "sd15") == ""
    assert "models that are not bundled" in describe_mismatch(benchmark, erasure, "pocket")
