"""A classifier benchmark: folders of training and test images, or pocket-classifier's own, read from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from efface.benchmarks.yaml_files import check_fields, read_benchmark_file, shipped_names
from efface.core.concept import Concept
from efface.core.concept_files import YAML_SUFFIXES
from efface.core.errors import EffaceError
from efface.core.serialization import json_hash, to_jsonable_dict
from efface.core.text_fields import fold_case
from efface.core.text_files import parse_yaml, read_text

ANY_MODEL = "any"
"""In place of the model of a benchmark that suits every one."""
_REQUIRED = ("name", "version", "description", "model", "concept")
_FOLDERS = ("train", "test", "forget", "forget_test")
_OPTIONAL = ("near", *_FOLDERS, "retrained")
NUM_OTHER = 240
"""Largest number of test images of other classes."""


@dataclass(frozen=True)
class ClassifierBenchmark:
    """A benchmark for image classifiers.

    Attributes:
        name: name of the benchmark.
        version: number raised with every change.
        description: one line.
        model: the model that the benchmark is for, or `ANY_MODEL`.
        concept: the concept to erase: all that a method receives.
        near: names of the classes that are near neighbours.
        train: folder of training images with one subfolder a class; empty for the model's own.
        test: folder of test images.
        forget: folder of the forgotten training images of a style or of samples; the concept chooses if empty.
        forget_test: folder of test images of a style; empty if there are none.
        retrained: safetensors file with the predictions of the classifier that was retrained without the concept, as
            ``efface evaluate`` writes it for an erasure by the method retrain; empty if there is none.
    """

    name: str
    version: int
    description: str
    model: str
    concept: Concept
    near: tuple[str, ...] = ()
    train: str = ""
    test: str = ""
    forget: str = ""
    forget_test: str = ""
    retrained: str = ""
    split: ClassVar[str] = "test"
    """Every classifier benchmark measures on test images."""

    @classmethod
    def load(cls, ref: str | Path) -> ClassifierBenchmark:
        """Reads a benchmark by name or from a YAML file, whose paths are relative to the file.

        Raises:
            EffaceError: no such benchmark, or a file that is not one.
        """
        data, path = read_benchmark_file(ref, "classifier")
        return cls.from_dict(data, path)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], path: Path) -> ClassifierBenchmark:
        """Builds a benchmark from the mapping that its file holds."""
        check_fields(data, _REQUIRED, _OPTIONAL, path)
        values = {**data, "concept": Concept.from_dict(data["concept"]), "near": tuple(data.get("near") or ())}
        for name in (*_FOLDERS, "retrained"):
            if values.get(name):
                values[name] = str(path.parent / str(values[name]))
                if not Path(values[name]).exists():
                    raise EffaceError(f"{path} names {name}: {data[name]}, which does not exist: correct the path")
        return cls(**values)

    @property
    def hash(self) -> str:
        """Hash of the fields that decide the images, and of the names and sizes of the files in its folders."""
        own = to_jsonable_dict(self)
        fields = {key: own[key] for key in ("name", "version", "model", "concept", "near")}
        files = {name: _files(Path(folder)) for name in _FOLDERS if (folder := getattr(self, name))}
        return json_hash(fields | ({"files": files} if files else {}))

    def describe(self) -> dict[str, Any]:
        """Returns what results and attack sets state of the benchmark, as JSON values."""
        own = {"name": self.name, "version": self.version, "hash": self.hash, "prompts_hash": self.hash}
        return {**own, "concept": self.concept.name, "split": self.split}


def _files(folder: Path) -> list[tuple[str, int]]:
    """Paths in a folder and sizes in bytes, sorted: reading every image of a large folder would take minutes."""
    return sorted((str(p.relative_to(folder)), p.stat().st_size) for p in folder.rglob("*") if p.is_file())


def is_classifier_benchmark(ref: str) -> bool:
    """Returns whether a name is a shipped classifier benchmark's, or a YAML file has its fields alone."""
    if not ref.endswith(YAML_SUFFIXES):
        return ref in classifier_benchmark_names()
    data = parse_yaml(read_text(Path(ref)), ref)
    return isinstance(data, Mapping) and set(_REQUIRED) <= set(data) <= {*_REQUIRED, *_OPTIONAL}


@cache
def classifier_benchmark_names() -> tuple[str, ...]:
    """Returns the names of the shipped benchmarks, sorted."""
    return shipped_names("classifier")


def find_classifier_benchmark(model: str, concept: str) -> ClassifierBenchmark | None:
    """Returns the shipped benchmark for a model and a concept, or None."""
    for name in classifier_benchmark_names():
        benchmark = ClassifierBenchmark.load(name)
        if benchmark.model == model and fold_case(benchmark.concept.name) == fold_case(concept):
            return benchmark
    return None
