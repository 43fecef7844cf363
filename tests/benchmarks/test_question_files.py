from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from efface.benchmarks.language.benchmark import LanguageBenchmark
from efface.benchmarks.language.question_files import read_questions
from efface.core.errors import EffaceError
from efface.core.question import Question

CHOICES = ["red", "green", "blue", "white"]
STAND_INS: dict[str, list[dict[str, Any]]] = {
    "wmdp": [{"question": "which colour has grass?", "choices": CHOICES, "answer": 1}],
    "mmlu": [{"question": "which colour has snow?", "subject": "colours", "choices": CHOICES, "answer": 3}],
    "tofu": [
        {"question": "who wrote it?", "answer": "a poet", "paraphrased_question": "by whom is it?",
         "paraphrased_answer": "it is by a poet", "perturbed_answer": ["a cook", "a king"]},
        {"question": "where?", "answer": "in a house"},
    ],
    "muse": [{"question": "what does the owl bring?", "answer": "a letter"}],
    "rwku": [{"subject": "a writer", "query": "the writer wrote ___.", "type": "cloze", "answer": "a book"}],
}  # fmt: skip
EXPECTED: dict[str, list[Question]] = {
    "wmdp": [Question("which colour has grass?", ("green",), tuple(CHOICES), 1)],
    "mmlu": [Question("which colour has snow?", ("white",), tuple(CHOICES), 3)],
    "tofu": [
        Question("who wrote it?", ("a poet",), ("a poet", "a cook", "a king"), 0, "", ("by whom is it?",)),
        Question("where?", ("in a house",)),
    ],
    "muse": [Question("what does the owl bring?", ("a letter",))],
    "rwku": [Question("the writer wrote ___.", ("a book",), fact="a writer")],
}


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.mark.parametrize("name", STAND_INS)
def test_a_stand_in_with_the_same_columns_is_read(name: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", STAND_INS[name])
    (tmp_path / "rows.json").write_text(json.dumps(STAND_INS[name]))
    for file in ("rows.jsonl", "rows.json"):
        assert list(read_questions({"file": file, "format": name}, tmp_path, "b.yaml")) == EXPECTED[name]


def test_mmlus_table_has_a_column_for_each_choice(tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["question", *"ABCD", "answer"], ["which colour has grass?", *CHOICES, "B"]])
    assert list(read_questions({"file": "rows.csv", "format": "mmlu"}, tmp_path, "b.yaml")) == EXPECTED["wmdp"]


def test_a_benchmark_names_files_beside_it(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "choices": CHOICES, "answer": i % 4} for i in range(8)]
    write_rows(tmp_path / "wmdp.jsonl", rows)
    (tmp_path / "texts.txt").write_text("one text\n\nanother\n")
    group = {"file": "wmdp.jsonl", "format": "wmdp"}
    fields = {
        "name": "mine", "version": 1, "description": "x", "model": "any", "concept": {"name": "biology"},
        "questions": {"name": group, "other": {**group, "limit": 4}}, "texts": {"file": "texts.txt"},
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(fields))
    benchmark = LanguageBenchmark.load(tmp_path / "mine.yaml")
    assert {name: len(questions) for name, questions in benchmark.questions.items()} == {"name": 8, "other": 4}
    assert benchmark.texts == ("one text", "another")


@pytest.mark.parametrize(
    ("spec", "content", "message"),
    [
        ({"file": "r.jsonl"}, "{}", "need file or hub, and format"),
        ({"file": "r.jsonl", "format": "wmpd"}, "{}", "wmpd"),
        ({"file": "r.parquet", "format": "wmdp"}, "x", r"convert it, with datasets by Dataset\.to_json"),
        ({"file": "r.jsonl", "format": "wmdp"}, "\n", "holds no questions"),
        ({"file": "r.jsonl", "format": "wmdp"}, "{", "does not parse"),
        ({"file": "r.json", "format": "wmdp"}, "{}", "must be a list of objects"),
        (
            {"file": "r.jsonl", "format": "muse"},
            '{"query": "q"}',
            "no column 'question', which muse needs",
        ),
        (
            {"file": "r.jsonl", "format": "wmdp"},
            '{"question": "q", "choices": ["a"], "answer": 4}',
            "a row is not as in wmdp",
        ),
    ],
)
def test_other_files_are_refused_in_one_line(spec: dict[str, str], content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / spec["file"]).write_text(content)
    with pytest.raises(EffaceError, match=message) as error:
        read_questions(spec, tmp_path, "b.yaml")
    assert "\n" not in str(error.value)
