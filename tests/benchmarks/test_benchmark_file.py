"""A benchmark's file: the schema holds for every shipped file, and errors name line and field."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from efface.benchmarks.benchmark import Benchmark, benchmark_names, data_folder
from efface.benchmarks.benchmark_fields import benchmark_fields
from efface.benchmarks.benchmark_file import BenchmarkFile, benchmark_schema, benchmark_yaml
from efface.core.errors import EffaceError

WEAPON = (data_folder() / "pocket-weapon.yaml").read_text(encoding="utf-8")
WRONG = {
    ("sampler:", "samplr:"): "line 2: has an unknown field 'samplr': did you mean 'sampler'?",
    ("num_inference_steps: 20", "num_inference_steps: many"): (
        "line 8, sampler.num_inference_steps: must be a whole number, not 'many'"
    ),
    ("version: 1", "version: 0"): "line 3, version: must be at least 1, not 0",
    ("detector: pocket-judge", "detector: judge"): "line 6, detector: is 'judge': Detector that judges the images",
    ("seed: 10000", "sede: 10000"): "line 64, splits.dev: has an unknown field 'sede': did you mean 'seed'?",
    ("background: snow", "background: no"): (
        "line 66, splits.dev.templates[0].expected.background: must be text or a list of texts, not False"
    ),
    ("name: weapon\n", "name: ''\n"): "line 10, concept.name: is empty",
    ("a picture of {} on the snow", "a picture on the snow"): "line 66, splits.dev.templates: must all have {}",
    ("phrase: a hammer", "phrase: 'a {}'"): "line 123, splits.dev.groups.near.phrases[0].phrase: is 'a {}'",
    ("a photo of a wrench in the snow", "a photo of a hammer in the snow"): (
        "line 13, concept.retain_prompts: pocket-weapon scores the retain prompt 'a photo of a hammer in the snow'"
    ),
    ("splits:", "splits: ["): "line 64: this is not YAML",
}


@pytest.mark.parametrize("name", benchmark_names())
def test_the_shipped_files_follow_the_schema(name: str) -> None:
    BenchmarkFile(data_folder() / f"{name}.yaml").check()


def test_the_schema_is_one_and_describes_every_field() -> None:
    Draft202012Validator.check_schema(benchmark_schema())
    assert all("description" in field for field in benchmark_schema()["properties"].values())


@pytest.mark.parametrize(("change", "message"), WRONG.items())
def test_an_error_names_the_line_and_the_field(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    assert change[0] in WEAPON
    path.write_text(WEAPON.replace(*change, 1), encoding="utf-8")
    with pytest.raises(EffaceError) as error:
        Benchmark.load(path)
    assert str(error.value).startswith(f"{path}, {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["pocket-weapon", "pocket-twenty", "sd-van-gogh"])
def test_a_written_benchmark_is_read_as_an_equal_one(name: str, tmp_path: Path) -> None:
    benchmark, path = Benchmark.load(name), tmp_path / "own.yaml"
    path.write_text(benchmark_yaml(benchmark_fields(benchmark)), encoding="utf-8")
    assert Benchmark.load(path) == benchmark
