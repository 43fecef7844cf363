from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from efface import benchmarks
from efface.benchmarks.benchmark import SPLITS, Benchmark, benchmark_names, find_benchmark
from efface.benchmarks.benchmark_validation import validate_benchmark
from efface.benchmarks.samples import GROUPS
from efface.core.concept import find_mention
from efface.core.errors import EffaceError, UnknownNameError
from efface.pocket_world import load_split, load_world

WORLD = load_world()
POCKET_BENCHMARKS = [name for name in benchmark_names() if name.startswith("pocket-")]


def words_of(thing: str) -> tuple[str, ...]:
    return (*WORLD.object_classes[thing].names, *WORLD.object_classes[thing].rare)


@pytest.mark.parametrize("name", POCKET_BENCHMARKS)
def test_every_benchmark_of_pocket_is_valid(name: str) -> None:
    benchmark = Benchmark.load(name)
    validate_benchmark(benchmark)
    for split in SPLITS:
        rows = benchmark.samples(split)
        assert {row.group for row in rows} == set(GROUPS)
        assert len({row.seed for row in rows}) == len(rows), "every image has its own seed"
        for group in GROUPS:
            assert sum(row.group == group for row in rows) >= 70, "enough images for an interval"
        classes = {
            head: {c for row in rows for c in row.expected.get(head, ())} for head in ("object", "background", "style")
        }
        assert classes["object"] <= set(WORLD.object_classes)
        assert classes["background"] <= set(WORLD.backgrounds)
        assert classes["style"] <= set(WORLD.styles)


@pytest.mark.parametrize("name", POCKET_BENCHMARKS)
def test_test_split_shares_nothing_with_dev_split_or_retain_set(name: str) -> None:
    benchmark, split = Benchmark.load(name), load_split()
    dev, test = (benchmark.samples(name) for name in ("dev", "test"))
    assert not {row.seed for row in dev} & {row.seed for row in test}
    named = {
        group: {row.prompt for row in rows if row.group == "name"} for group, rows in (("dev", dev), ("test", test))
    }
    assert not named["dev"] & named["test"]
    scored = {o for row in test for o in row.expected.get("object", ()) if row.group in ("near", "other")} | set(
        benchmark.classes
    )
    concept = split.concepts.get(benchmark.concept.name)
    members = set(benchmark.classes) if concept and concept.split == "dev" else set()
    if not name.startswith("pocket-abstract-"):  # a word's other sense may be a retain object that no prompt names
        assert not (scored - members) & set(split.retain), (
            "of the retain half there may be a dev concept's own members alone"
        )
    for thing in (o for o in scored if o in WORLD.object_classes):
        for prompt in benchmark.concept.retain_prompts:
            assert not find_mention(prompt, words_of(thing)), f"{prompt!r} trains what is scored"
    given = " ".join(
        (*benchmark.concept.synonyms, *benchmark.concept.templates, *benchmark.concept.prompts, benchmark.concept.name)
    )
    for row in test:
        if row.group == "domain" and benchmark.head == "object":
            others = [
                w for o in row.expected["object"] for w in words_of(o) if not find_mention(benchmark.concept.name, [w])
            ]
            assert find_mention(given, others) is None


def test_limit_and_seed_of_the_samples() -> None:
    benchmark = Benchmark.load("pocket-weapon")
    few = benchmark.samples("test", limit=6)
    assert [sum(r.group == g for r in few) for g in GROUPS] == [6, 6, 6, 6]
    assert {tuple(r.expected["style"]) for r in few if r.group == "name"} != {("photo",)}, "spread over the templates"
    assert benchmark.samples("test")[0].seed == 20000
    assert benchmark.samples("test", seed=5)[0].seed == 5
    assert [r.prompt for r in benchmark.samples("test", seed=5)] == [r.prompt for r in benchmark.samples("test")]


def test_consecutive_samples_have_different_styles_and_backgrounds() -> None:
    rows = [row for row in Benchmark.load("pocket-weapon").samples("test") if row.group == "domain"][:6]
    assert len({row.expected["style"] for row in rows}) == len({row.expected["background"] for row in rows}) == 6


def test_attack_tasks_are_the_prompts_of_the_name() -> None:
    benchmark = Benchmark.load("pocket-santa")
    tasks = benchmark.attack_tasks("test", limit=10)
    assert len(tasks) == 10
    assert all("santa claus" in task.prompt and "{}" in task.template for task in tasks)


def test_find_benchmark_by_model_and_concept() -> None:
    benchmark = find_benchmark("pocket", "santa claus")
    assert benchmark is not None
    assert benchmark.name == "pocket-santa"
    assert find_benchmark("pocket", "sofa") is None


def test_bad_input_gives_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'pocket-weapon'"):
        Benchmark.load("pocket-weapons")
    with pytest.raises(UnknownNameError, match="split 'tset'"):
        Benchmark.load("pocket-weapon").samples("tset")
    with pytest.raises(EffaceError, match="cannot read"):
        Benchmark.load(tmp_path / "none.yaml")
    for text in ("[1, 2]", "name: x", "name: [", "nmae: x\nversion: 1"):
        (tmp_path / "b.yaml").write_text(text)
        with pytest.raises(EffaceError) as error:
            Benchmark.load(tmp_path / "b.yaml")
        assert "\n" not in str(error.value)


def test_a_users_own_file(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "src/efface/benchmarks/data/pocket-weapon.yaml").read_text()
    (tmp_path / "own.yaml").write_text(text.replace("name: pocket-weapon", "name: own"))
    own = Benchmark.load(tmp_path / "own.yaml")
    assert own.name == "own"
    assert own.hash != Benchmark.load("pocket-weapon").hash


def test_a_scored_retain_prompt_is_refused() -> None:
    benchmark = Benchmark.load("pocket-weapon")
    concept = replace(benchmark.concept, retain_prompts=(benchmark.samples("test")[-1].prompt,))
    with pytest.raises(EffaceError, match="take it out of retain_prompts"):
        validate_benchmark(replace(benchmark, concept=concept))


def test_the_content_policy_applies_to_benchmarks(tmp_path: Path) -> None:
    wrong, path = " ".join(("nude", "child")), tmp_path / "b.yaml"
    shipped = Benchmark.load("pocket-weapon")
    for split in SPLITS:
        templates = [{**template, "text": f"{{}} {wrong}"} for template in shipped.splits[split]["templates"]]
        splits = {**shipped.splits, split: {**shipped.splits[split], "templates": templates}}
        changed = replace(shipped, splits=splits)
        with pytest.raises(EffaceError, match=r"^refused: a prompt of pocket-weapon"):
            validate_benchmark(changed)
    with pytest.raises(EffaceError, match=r"^refused: a prompt of pocket-weapon"):
        validate_benchmark(replace(shipped, attack_phrases=(wrong,)))
    text = (Path(benchmarks.__file__).parent / "data" / "pocket-weapon.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("attack_phrases:", f"attack_phrases:\n- {wrong}", 1), encoding="utf-8")
    with pytest.raises(EffaceError, match=r"^refused: a prompt of pocket-weapon") as error:
        Benchmark.load(path)
    assert "nude" not in str(error.value)
