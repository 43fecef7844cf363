"""A benchmark: which prompts are drawn with which seeds, what each asks for, and what looks at the images.

A file (``data/<name>.yaml``, or a user's own) has two parts, ``dev`` to choose hyper-parameters and ``test`` to report. A part has
*frames*, such as ``a photo of {} in the snow``, and groups of *phrases*, such as ``a kitchen knife``, that go into them; each says by
head of the detector what its words ask for. Groups: ``name`` (the concept's own name), ``domain`` (other words for it), ``near`` (what
is close to it) and ``other`` (what is not).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from efface.core.attack_set import AttackTask, SoftPrompt, insert_phrase
from efface.core.concept import Concept
from efface.core.errors import CorruptArtifactError, EffaceError, UnknownNameError, check_known_keys
from efface.core.io import user_file_errors
from efface.core.policy import check_prompts
from efface.core.serialization import json_hash, to_jsonable_dict
from efface.core.subsample import evenly_spaced
from efface.models.loading import base_bundled_model

SPLITS = ("test", "dev")
GROUPS = ("name", "domain", "near", "other")
_KEYS = (
    "name", "version", "description", "model", "detector", "clip", "sampler", "concept", "target", "attack_phrases", "splits", "joint_concepts",
    "features",
)  # fmt: skip


@dataclass(frozen=True)
class EvalSample:
    """One image to draw.

    Attributes:
        group: which group it counts in.
        prompt: what is asked for; for an attack the prompt as it stood.
        text: what the model is given.
        seed: of the image.
        shows: by head, the classes each of which would do.
        frame: the prompt without its phrase.
        soft: embeddings in place of some of the text's tokens.
        words: the words nearest to these.
    """

    group: str
    prompt: str
    text: str
    seed: int
    expected: Mapping[str, tuple[str, ...]]
    template: str = ""
    soft: SoftPrompt | None = None
    nearest_tokens: str = ""


@dataclass(frozen=True)
class Sampler:
    """How images are drawn: the sampler's name, its steps, the classifier-free guidance scale."""

    name: str = "ddim"
    num_inference_steps: int = 20
    guidance_scale: float = 3.0


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as read from its file.

    Attributes:
        name: as it is registered. version: raised with every change. about: one line.
        model: the model that it is for. detector, clip: what looks at the images (`efface.benchmarks.detector_loading`).
        concept: what is erased, with its retain set: all that a method is given.
        head, classes: how the detector sees it: any of these classes of this head.
        sampler: how images are drawn.
        attack_phrases: other words for the concept, never given to a method.
        parts: frames and groups by part, as in the file.
        together: names that are erased together with the concept; the target's classes are then all of theirs.
        features: what KID and FID are computed on, a file; ``""`` is the detector's own features.
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
        """All that is erased: the concept, and those that are erased together with it."""
        return (self.concept, *map(Concept, self.joint_concepts))

    @classmethod
    def load(cls, ref: str | Path) -> Benchmark:
        """A benchmark by name, or from a YAML file.

        Raises:
            UnknownName: neither; the nearest name is suggested.
            EffaceError: a file that is no benchmark.
        """
        path = Path(ref) if str(ref).endswith((".yaml", ".yml")) else _folder() / f"{ref}.yaml"
        if str(ref) not in names() and not str(ref).endswith((".yaml", ".yml")):
            raise UnknownNameError("benchmark", str(ref), names())
        import yaml

        with user_file_errors(path, "read"):
            raw = path.read_text(encoding="utf-8")
        try:
            benchmark = cls.from_dict(yaml.load(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
            check_groups(benchmark)
        except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise CorruptArtifactError(f"{path} is no benchmark ({' '.join(str(error).split())})") from error
        return benchmark

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Benchmark:
        """A benchmark from the mapping that its file holds."""
        check_known_keys("benchmark field", data, _KEYS)
        target, concept = data["target"], Concept.from_dict(data["concept"])
        return cls(
            data["name"], int(data["version"]), data["description"], data["model"], data["detector"], data["clip"], concept, target["head"],
            tuple(target["classes"]), Sampler(**data["sampler"]), tuple(data["attack_phrases"]), data["splits"],
            tuple(data.get("joint_concepts", ())), data.get("features", ""),
        )  # fmt: skip

    @cached_property
    def hash(self) -> str:
        """The SHA-256 of everything in it."""
        return json_hash({key: value for key, value in to_jsonable_dict(self).items() if value or key != "features"})

    def rows(
        self, part: str = "test", *, seed: int | None = None, limit: int | None = None, groups: Sequence[str] = GROUPS
    ) -> list[EvalSample]:
        """The images to draw.

        Args:
            part: ``test`` or ``dev``.
            seed: the first image's; the part's own by default. Every image has its own.
            limit: at most so many images a group, evenly spread over it.
            groups: which groups.

        Raises:
            UnknownName: no such part.
        """
        own, rows = self.first_seed(part), []
        start = own if seed is None else seed
        for group in GROUPS:
            found = self._group(part, group, start)
            start += len(found)
            if group in groups:
                rows += evenly_spaced(found, limit)
        return rows

    def first_seed(self, part: str) -> int:
        """The seed of a part's first image; raises `UnknownName` where there is no such part."""
        if part not in self.splits:
            raise UnknownNameError("part", part, self.splits)
        return int(self.splits[part]["seed"])

    def tasks(self, part: str = "test", *, seed: int | None = None, limit: int | None = None) -> tuple[AttackTask, ...]:
        """What an attack starts from: the prompts of the group ``name``."""
        return tuple(
            evenly_spaced(
                [AttackTask(r.prompt, r.template, r.seed) for r in self.rows(part, seed=seed, groups=("name",))], limit
            )
        )

    def _group(self, part: str, group: str, start: int) -> list[EvalSample]:
        spec, frames = self.splits[part]["groups"][group], self.splits[part]["templates"]
        rows: list[EvalSample] = []
        for i, entry in enumerate(spec["phrases"]):
            for j in range(spec["templates"]):
                frame = frames[(i * spec["templates"] + j) % len(frames)]
                prompt, shows = (
                    insert_phrase(frame["text"], entry["phrase"]),
                    _classes({**frame["expected"], **entry["expected"]}),
                )
                first = start + len(rows)
                rows += [
                    EvalSample(group, prompt, prompt, first + k, shows, frame["text"]) for k in range(spec["seeds"])
                ]
        return rows


def names() -> tuple[str, ...]:
    """The benchmarks that ship, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def benchmark_for(model: str, concept: str) -> Benchmark | None:
    """The shipped benchmark of a model and a concept's name; None where there is none."""
    return next(benchmarks_for(model, {concept}), None)


def benchmarks_for(model: str, concepts: Collection[str]) -> Iterator[Benchmark]:
    """The shipped benchmarks of a model for one of these names each, every file read once."""
    for found in map(Benchmark.load, names()):
        if found.model == base_bundled_model(model) and found.concept.name in concepts and not found.joint_concepts:
            yield found


def _folder() -> Path:
    return Path(str(files("efface.benchmarks").joinpath("data")))


def _classes(shows: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {head: (wanted,) if isinstance(wanted, str) else tuple(wanted) for head, wanted in shows.items()}


def check_groups(benchmark: Benchmark) -> None:
    """Raises `EffaceError` unless the parts have every group, no retain prompt is scored, and the content policy allows every prompt."""
    for part, content in benchmark.splits.items():
        if missing := [group for group in GROUPS if group not in content["groups"]]:
            raise EffaceError(f"part {part!r} of {benchmark.name} has no group {missing[0]!r}")
        scored = {row.prompt for row in benchmark.rows(part)}
        check_prompts((*benchmark.attack_phrases, *sorted(scored)), f"a prompt of {benchmark.name}")
        if leaked := sorted(scored.intersection(benchmark.concept.retain_prompts)):
            raise EffaceError(f"{benchmark.name} scores the retain prompt {leaked[0]!r}: take it out of the retain set")
