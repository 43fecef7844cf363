"""A language benchmark: questions by group and texts for the perplexity, read from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from efface.benchmarks.yaml_files import check_fields, read_benchmark_file, shipped_names
from efface.core.concept import Concept
from efface.core.errors import EffaceError, check_known_keys
from efface.core.question import Question
from efface.core.serialization import json_hash, to_jsonable
from efface.core.subsample import evenly_spaced
from efface.core.text_fields import fold_case
from efface.core.text_files import parse_yaml, read_lines, read_text

from .question_files import read_questions

GROUPS = ("name", "domain", "near", "other", "general")
"""Groups of questions: about the concept's members by name; with descriptions only; near neighbours; other objects of
the same world; facts of other kinds."""
ANY_MODEL = "any"
"""In place of the model of a benchmark that suits every one."""
_FIELDS = ("name", "version", "description", "model", "concept", "questions", "texts")
SPLITS = ("test", "dev")
"""Benchmarks that measure, and those on which hyper-parameters are chosen; no concept has both."""


@dataclass(frozen=True)
class LanguageBenchmark:
    """A benchmark for language models.

    Attributes:
        name: name of the benchmark.
        version: number raised with every change.
        description: one line.
        model: the model that the benchmark is for, or `ANY_MODEL`.
        concept: the concept to erase: all that a method receives.
        questions: questions by group (`GROUPS`).
        texts: texts without the concept, for the perplexity.
        split: one of `SPLITS`.
    """

    name: str
    version: int
    description: str
    model: str
    concept: Concept
    questions: Mapping[str, Sequence[Question]] = field(repr=False)
    texts: Sequence[str] = field(repr=False)
    split: str = "test"

    @classmethod
    def load(cls, ref: str | Path) -> LanguageBenchmark:
        """Reads a benchmark by name or from a YAML file.

        Raises:
            EffaceError: no such benchmark, or a file that is not one.
        """
        data, path = read_benchmark_file(ref, "language")
        return cls.from_dict(data, str(path))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> LanguageBenchmark:
        """Builds a benchmark from the mapping that its file holds."""
        check_fields(data, _FIELDS, ("split",), where)
        check_known_keys("group of questions", data["questions"], GROUPS)
        questions = {g: _questions(rows, where) for g, rows in data["questions"].items()}
        check_questions(questions, where)
        concept = Concept.from_dict(data["concept"])
        head = (data["name"], int(data["version"]), data["description"], data["model"])
        if (split := str(data.get("split", "test"))) not in SPLITS:
            raise EffaceError(f"{where} is of the split {split!r}: give {' or '.join(SPLITS)}")
        return cls(*head, concept, questions, _texts(data["texts"], where), split)

    @property
    def hash(self) -> str:
        """Hash of all questions with their answers, and of all texts."""
        return json_hash({"questions": to_jsonable(self.questions), "texts": list(self.texts)})

    def describe(self) -> dict[str, Any]:
        """Returns what results and attack sets state of the benchmark, as JSON values."""
        own = {"name": self.name, "version": self.version, "hash": self.hash, "prompts_hash": self.hash}
        return {**own, "concept": self.concept.name, "split": self.split}

    def limited(self, limit: int | None) -> LanguageBenchmark:
        """Returns the benchmark with at most ``limit`` questions of a group and texts, evenly spaced."""
        rows = {group: evenly_spaced(items, limit) for group, items in self.questions.items()}
        return replace(self, questions=rows, texts=evenly_spaced(self.texts, limit))


def _questions(rows: Any, where: str) -> tuple[Question, ...]:
    """Reads a group's questions: listed, or in a file of a known format."""
    if isinstance(rows, Mapping):
        return read_questions(rows, Path(where).parent, where)
    return tuple(map(Question.from_dict, rows))


def _texts(texts: Any, where: str) -> tuple[str, ...]:
    """Reads the texts: listed, or ``{file: NAME}`` with one a line."""
    if isinstance(texts, Mapping):
        check_known_keys("field of the texts", texts, ("file",))
        return tuple(read_lines(Path(where).parent / str(texts.get("file", ""))))
    return tuple(texts)


def check_questions(questions: Mapping[str, Sequence[Question]], where: str) -> None:
    """Checks that questions can tell a change: some about the concept, some others, answers that differ.

    Raises:
        EffaceError: a group without questions, or one whose questions all have the same answer.
    """
    for group in ("name", "other"):
        if not questions.get(group):
            raise EffaceError(f"{where} has no questions of the group {group!r}: give some")
    for group, rows in questions.items():
        answers = {row.answers for row in rows}
        if group not in ("name", "domain") and len(rows) > 1 and len(answers) == 1:
            raise EffaceError(f"{where}: all questions of {group!r} have one answer, which measures nothing")


@cache
def language_benchmark_names() -> tuple[str, ...]:
    """Returns the names of the shipped benchmarks, sorted."""
    return shipped_names("language")


def is_language_benchmark(ref: str) -> bool:
    """Returns whether a name is a shipped language benchmark's, or a YAML file has questions."""
    if not ref.endswith((".yaml", ".yml")):
        return ref in language_benchmark_names()
    data = parse_yaml(read_text(Path(ref)), ref)
    return isinstance(data, Mapping) and "questions" in data


def find_language_benchmark(model: str, concept: str) -> LanguageBenchmark | None:
    """Returns the shipped benchmark for a model and a concept, or None."""
    for benchmark in map(_shipped, language_benchmark_names()):
        if benchmark.model == model and fold_case(benchmark.concept.name) == fold_case(concept):
            return benchmark
    return None


@cache
def _shipped(name: str) -> LanguageBenchmark:
    return LanguageBenchmark.load(name)
