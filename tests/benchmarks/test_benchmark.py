from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from efface import benchmarks
from efface.benchmarks.benchmark import GROUPS, SPLITS, Benchmark, benchmark_for, check_groups, names
from efface.core.concept import find_mention
from efface.core.errors import EffaceError, UnknownNameError
from efface.pocket_world import load_split, load_world

WORLD = load_world()


def words_of(thing: str) -> tuple[str, ...]:
    return (*WORLD.things[thing].names, *WORLD.things[thing].rare)


@pytest.mark.parametrize("name", names())
def test_every_benchmark_is_sound(name: str) -> None:
    benchmark = Benchmark.load(name)
    check_groups(benchmark)
    for part in SPLITS:
        rows = benchmark.rows(part)
        assert {row.group for row in rows} == set(GROUPS)
        assert len({row.seed for row in rows}) == len(rows), "every image has a seed of its own"
        for group in GROUPS:
            assert sum(row.group == group for row in rows) >= 70, "enough for an interval"
        shown = {
            head: {c for row in rows for c in row.expected.get(head, ())} for head in ("object", "background", "style")
        }
        assert shown["object"] <= set(WORLD.things)
        assert shown["background"] <= set(WORLD.backgrounds)
        assert shown["style"] <= set(WORLD.styles)


@pytest.mark.parametrize("name", names())
def test_nothing_leaks(name: str) -> None:
    benchmark, split = Benchmark.load(name), load_split()
    dev, test = (benchmark.rows(part) for part in ("dev", "test"))
    assert not {row.seed for row in dev} & {row.seed for row in test}
    named = {
        group: {row.prompt for row in rows if row.group == "name"} for group, rows in (("dev", dev), ("test", test))
    }
    assert not named["dev"] & named["test"]
    scored = {o for row in test for o in row.expected.get("object", ()) if row.group in ("near", "other")} | set(
        benchmark.classes
    )
    concept = split.concepts.get(benchmark.concept.name)
    members = set(benchmark.classes) if concept and concept.part == "dev" else set()
    assert not (scored - members) & set(split.retain), (
        "of the retain half there may be a dev concept's own members alone"
    )
    for thing in (o for o in scored if o in WORLD.things):
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


def test_limit_and_seed() -> None:
    benchmark = Benchmark.load("pocket-weapon")
    few = benchmark.rows("test", limit=6)
    assert [sum(r.group == g for r in few) for g in GROUPS] == [6, 6, 6, 6]
    assert {tuple(r.expected["style"]) for r in few if r.group == "name"} != {("photo",)}, "spread over the frames"
    assert benchmark.rows("test")[0].seed == 20000
    assert benchmark.rows("test", seed=5)[0].seed == 5
    assert [r.prompt for r in benchmark.rows("test", seed=5)] == [r.prompt for r in benchmark.rows("test")]


def test_every_style_and_place_in_a_row() -> None:
    rows = [row for row in Benchmark.load("pocket-weapon").rows("test") if row.group == "domain"][:6]
    assert len({row.expected["style"] for row in rows}) == len({row.expected["background"] for row in rows}) == 6


def test_tasks_are_the_name_prompts() -> None:
    benchmark = Benchmark.load("pocket-santa")
    tasks = benchmark.tasks("test", limit=10)
    assert len(tasks) == 10
    assert all("santa claus" in task.prompt and "{}" in task.template for task in tasks)


def test_found_by_model_and_concept() -> None:
    found = benchmark_for("pocket", "santa claus")
    assert found is not None
    assert found.name == "pocket-santa"
    assert benchmark_for("pocket", "sofa") is None


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'pocket-weapon'"):
        Benchmark.load("pocket-weapons")
    with pytest.raises(UnknownNameError, match="part 'tset'"):
        Benchmark.load("pocket-weapon").rows("tset")
    with pytest.raises(EffaceError, match="cannot read"):
        Benchmark.load(tmp_path / "none.yaml")
    for text in ("[1, 2]", "name: x", "name: [", "nmae: x\nversion: 1"):
        (tmp_path / "b.yaml").write_text(text)
        with pytest.raises(EffaceError) as error:
            Benchmark.load(tmp_path / "b.yaml")
        assert "\n" not in str(error.value)


def test_own_file(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "src/efface/benchmarks/data/pocket-weapon.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("name: pocket-weapon", "name: mine"))
    mine = Benchmark.load(tmp_path / "mine.yaml")
    assert mine.name == "mine"
    assert mine.hash != Benchmark.load("pocket-weapon").hash


def test_a_scored_retain_prompt_is_refused() -> None:
    benchmark = Benchmark.load("pocket-weapon")
    leaked = replace(benchmark.concept, retain=(benchmark.rows("test")[-1].prompt,))
    with pytest.raises(EffaceError, match="take it out of the retain set"):
        check_groups(replace(benchmark, concept=leaked))


def test_the_content_policy_holds_for_benchmarks(tmp_path: Path) -> None:
    wrong, path = " ".join(("nude", "child")), tmp_path / "b.yaml"
    shipped = Benchmark.load("pocket-weapon")
    for part in SPLITS:
        frames = [{**frame, "text": f"{{}} {wrong}"} for frame in shipped.splits[part]["frames"]]
        changed = replace(shipped, parts={**shipped.splits, part: {**shipped.splits[part], "frames": frames}})
        with pytest.raises(EffaceError, match=r"^refused: a prompt of pocket-weapon"):
            check_groups(changed)
    with pytest.raises(EffaceError, match=r"^refused: a prompt of pocket-weapon"):
        check_groups(replace(shipped, attack_phrases=(wrong,)))
    text = (Path(benchmarks.__file__).parent / "data" / "pocket-weapon.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("attack_phrases:", f"attack_phrases:\n- {wrong}", 1), encoding="utf-8")
    with pytest.raises(EffaceError, match=r"^refused: a prompt of pocket-weapon") as error:
        Benchmark.load(path)
    assert "nude" not in str(error.value)
