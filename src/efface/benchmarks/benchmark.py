"""A benchmark: prompts, seeds, expected classes, sampler and detectors of an evaluation, read from YAML.

A file (``data/<name>.yaml``, or a user's own) has two splits: ``dev`` to choose hyper-parameters, ``test`` to report.
A split has *templates*, such as ``a photo of {} in the snow``, and groups of *phrases* to insert, such as ``a kitchen
knife``. Both list the classes that a detector's heads should report. Groups: ``name`` (the concept's own name),
``domain`` (other phrases for it), ``near`` (near neighbours) and ``other`` (unrelated objects).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from efface.core.attack_set import AttackTask
from efface.core.concept import Concept
from efface.core.errors import UnknownNameError, check_known_keys
from efface.core.serialization import json_hash, to_jsonable_dict
from efface.core.subsample import evenly_spaced
from efface.models.model_ref import BUNDLED, image_world

from .benchmark_file import BenchmarkFile
from .benchmark_validation import validate_benchmark
from .samples import GROUPS, EvalSample, Sampler, group_samples
from .token_sampler import for_model

SPLITS = ("test", "dev")
ANY_MODEL = "any"
"""Value of the field ``model`` of a benchmark for every model that is not bundled."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as read from its file.

    Attributes:
        name: name of the benchmark.
        version: number raised with every change.
        description: one line.
        model: the model that the benchmark is for, or `ANY_MODEL`.
        detector: detector that judges the images (`efface.benchmarks.detector_names`).
        clip: model of the CLIP score.
        concept: the concept to erase with its retain set: all that a method receives.
        head: the detector's head that sees the concept.
        classes: classes of that head that count as the concept.
        sampler: how images are sampled.
        attack_phrases: other phrases for the concept, which no method receives.
        splits: templates and groups of each split, as in the file.
        joint_concepts: names of concepts erased together with this one; `classes` holds the classes of all of them.
        features: file of KID's and FID's network; ``""`` takes the detector's features.
    """

    name: str
    version: int
    description: str
    model: str
    detector: str
    clip: str
    concept: Concept
    head: str
    classes: tuple[str, ...]
    sampler: Sampler
    attack_phrases: tuple[str, ...]
    splits: Mapping[str, Any] = field(repr=False)
    joint_concepts: tuple[str, ...] = ()
    features: str = ""

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """All erased concepts: the benchmark's own and its joint concepts."""
        return (self.concept, *map(Concept, self.joint_concepts))

    @property
    def fits_every_model(self) -> bool:
        """Whether the benchmark serves every model that is not bundled."""
        return self.model == ANY_MODEL

    def is_for(self, model: str) -> bool:
        """Whether the benchmark serves a model of this name."""
        base_model = image_world(model)
        return self.model == base_model or (self.fits_every_model and base_model not in BUNDLED)

    @classmethod
    def load(cls, ref: str | Path) -> Benchmark:
        """Read a benchmark by name or from a YAML file.

        Raises:
            EffaceError: no such benchmark, or a file that is not one.
        """
        is_file = str(ref).endswith((".yaml", ".yml"))
        if not is_file and str(ref) not in benchmark_names():
            raise UnknownNameError("benchmark", str(ref), benchmark_names())
        file = BenchmarkFile(Path(ref) if is_file else data_folder() / f"{ref}.yaml")
        return cls._from_users_file(file) if is_file else cls.from_dict(file.fields)  # tests check the shipped files

    @classmethod
    def _from_users_file(cls, file: BenchmarkFile) -> Benchmark:
        """Build a benchmark from a file after all checks; their errors name the line and the field."""
        file.check()
        with file.errors_at("concept"):
            Concept.from_dict(file.fields["concept"])
        benchmark = cls.from_dict(file.fields)
        with file.errors_at("concept", "retain_prompts"):
            validate_benchmark(benchmark)
        return benchmark

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Benchmark:
        """Build a benchmark from the mapping that its file holds."""
        check_known_keys("benchmark field", data, {f.name for f in fields(cls)} - {"head", "classes"} | {"target"})
        target = data["target"]
        return cls(
            **{name: data[name] for name in ("name", "description", "model", "detector", "clip", "splits")},
            version=int(data["version"]),
            concept=Concept.from_dict(data["concept"]),
            head=target["head"],
            classes=tuple(target["classes"]),
            sampler=Sampler(**data["sampler"]),
            attack_phrases=tuple(data["attack_phrases"]),
            joint_concepts=tuple(data.get("joint_concepts", ())),
            features=data.get("features", ""),
        )

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all fields; an empty `features` is left out."""
        return json_hash({key: value for key, value in to_jsonable_dict(self).items() if value or key != "features"})

    @cached_property
    def prompts_hash(self) -> str:
        """SHA-256 of the prompts, seeds and classes, and of the attacks' phrases; equal for every detector."""
        return json_hash([self.head, self.classes, self.attack_phrases, self.splits])

    def samples(
        self, split: str = "test", *, seed: int | None = None, limit: int | None = None, groups: Sequence[str] = GROUPS
    ) -> list[EvalSample]:
        """List the images to generate, each with its own seed.

        Args:
            split: ``test`` or ``dev``.
            seed: seed of the first image; the split's own by default.
            limit: maximum number of images of a group, evenly spread over it.
            groups: the groups to list.

        Raises:
            UnknownNameError: no such split.
        """
        split_seed = self.first_seed(split)  # refuses an unknown split
        next_seed = split_seed if seed is None else seed
        samples: list[EvalSample] = []
        for group in GROUPS:
            in_group = group_samples(self.splits[split], group, next_seed)
            next_seed += len(in_group)
            if group in groups:
                samples += evenly_spaced(in_group, limit)
        return samples

    def first_seed(self, split: str) -> int:
        """Seed of the split's first image; raises `UnknownNameError` for an unknown split."""
        if split not in self.splits:
            raise UnknownNameError("split", split, self.splits)
        return int(self.splits[split]["seed"])

    def attack_tasks(
        self, split: str = "test", *, seed: int | None = None, limit: int | None = None
    ) -> tuple[AttackTask, ...]:
        """The prompts that an attack starts from: those of the group ``name``, at most `limit` of them."""
        samples = evenly_spaced(self.samples(split, seed=seed, groups=("name",)), limit)
        return tuple(AttackTask(sample.prompt, sample.template, sample.seed) for sample in samples)


def benchmark_names() -> tuple[str, ...]:
    """Names of the shipped benchmarks, sorted."""
    return tuple(sorted(path.stem for path in data_folder().glob("*.yaml")))


def find_benchmark(model: str, concept: str) -> Benchmark | None:
    """The shipped benchmark for a model and a concept's name, or None."""
    return next(find_benchmarks(model, {concept}), None)


def find_benchmarks(model: str, concepts: Collection[str]) -> Iterator[Benchmark]:
    """The shipped benchmarks for a model and any of these concepts, without those for joint concepts."""
    for benchmark in map(_shipped, benchmark_names()):
        if benchmark.is_for(model) and benchmark.concept.name in concepts and not benchmark.joint_concepts:
            yield for_model(benchmark, model)


@cache
def _shipped(name: str) -> Benchmark:
    return Benchmark.load(name)  # 30 ms


def data_folder() -> Path:
    """The folder of the shipped benchmarks."""
    return Path(str(files("efface.benchmarks").joinpath("data")))
