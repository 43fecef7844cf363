"""Measure methods on pocket: ``python benchmarks/effect.py [METHOD ...] [--benchmark NAME ...] [--seeds 3]``.

Each method, with its preset for pocket, erases the concept of each benchmark. Attacks are run (synonyms by default)
and the test split is evaluated. ``--variant esd-text --set target_modules=text_all`` measures a variant of the
configuration under its own name, ``--model pocket-flow`` measures on another model. Results are stored in
``docs/results/<method>.json`` (`efface.benchmarks.result_store`), from which `docs/generate.py` writes the tables. For
pocket-weapon, an image is written to ``docs/methods``. Stored results are not measured again: remove them first.
"""

from __future__ import annotations

import json
import tempfile
import textwrap
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image

from efface import api
from efface.api.validation import load_erasure
from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.result_store import ResultKey, ResultStore
from efface.cli.parsing import parse_settings
from efface.core.concept import Concept, find_mention
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.core.result import Result
from efface.core.serialization import to_jsonable_dict
from efface.execution import resolve_config
from efface.models.editable import EditableModel
from efface.models.loading import load_model
from efface.ops.training.progress import RichProgress
from efface.reporting.image_grid import labelled_grid

DOCS = Path(__file__).parents[1] / "docs"
DEFAULT_BENCHMARKS = ("pocket-weapon", "pocket-santa", "pocket-style", "pocket-animal", "pocket-vice")
IMAGE_GROUPS = ("name", "domain", "near", "other")
IMAGE_BENCHMARK = "pocket-weapon"


@dataclass(frozen=True)
class Measurement:
    """What to measure for every erasure.

    Attributes:
        model: the base model.
        attacks: names of the attacks to run.
        attack_limit: maximum number of prompts of every attack but synonyms.
        limit: maximum number of images of each group, and of prompts of synonyms; None for all.
        settings: fields of the method's configuration, as text.
        transfer_to: another model to transfer each erasure to and evaluate on; empty for none.
        artifacts: a folder for the erasures; None deletes them after the evaluation.
    """

    model: EditableModel
    attacks: list[str]
    attack_limit: int
    limit: int | None
    settings: dict[str, str]
    transfer_to: str
    artifacts: Path | None

    def measure(self, method: str, keys: list[ResultKey], store: ResultStore) -> None:
        """Erase the concepts of these keys' benchmarks at once, and store every missing result."""
        benchmarks = [Benchmark.load(key.benchmark) for key in keys]
        concepts = without_mutual_retention([concept for b in benchmarks for concept in b.concepts])
        with nullcontext(self.artifacts) if self.artifacts else tempfile.TemporaryDirectory() as folder:
            name = "-".join([method, *(str(key).replace("/", "-") for key in keys)])
            artifact = Path(folder) / name
            if not artifact.is_dir():
                api.erase(
                    concepts, out=artifact, model=self.model, method=method, seed=keys[0].seed, config=self.settings,
                    quick_evaluation=False, progress=RichProgress(),
                )  # fmt: skip
            self._check_settings(erasure := load_erasure(artifact), method)
            metadata = self._metadata(erasure, method, keys)
            for key in self.missing(keys, store):
                result = self._transfer(artifact, key) if key.transferred_to else self._evaluate(artifact, key)
                store.add(key, replace(result, metadata={**result.metadata, **metadata}))
                if key == ResultKey(IMAGE_BENCHMARK, 0, model=key.model):
                    save_image(next((artifact / "evidence").glob(f"{IMAGE_BENCHMARK}-test-*")), method, key.model)
                store.save()
                print(f"{method} {key}: {result.summary()}", flush=True)

    def missing(self, keys: list[ResultKey], store: ResultStore) -> list[ResultKey]:
        """Returns the keys without a result, those of the transferred erasures among them."""
        transferred = [replace(key, transferred_to=self.transfer_to) for key in keys if self.transfer_to]
        return [key for key in (*keys, *transferred) if key not in store.results]

    def _check_settings(self, erasure: Erasure, method: str) -> None:
        """Raises `EffaceError` where an existing erasure has another configuration than the one to measure."""
        config, _ = resolve_config(METHODS.get(method), None, erasure.spec.model, self.settings, self.model.family)
        if erasure.spec.config != to_jsonable_dict(asdict(config)):
            raise EffaceError(f"{erasure.folder} has another configuration: give --artifacts another folder")

    def _metadata(self, erasure: Erasure, method: str, keys: list[ResultKey]) -> dict[str, Any]:
        assert erasure.cost is not None
        cost = {
            "seconds": erasure.cost.seconds,
            "threads": torch.get_num_threads(),
            "peak_memory_bytes": erasure.cost.peak_memory_bytes,
        }
        return {
            "method": method,
            "overrides": self.settings,
            "root_seed": keys[0].seed,
            "cost": cost,
            "joint_concepts": [key.benchmark for key in keys] if keys[0].joint else [],
        }

    def _evaluate(self, artifact: Path, key: ResultKey) -> Result:
        for attack in self.attacks:
            limit = self.limit if attack == "synonyms" else self.attack_limit
            options: dict[str, Any] = {"seed": key.seed, "limit": limit, "progress": RichProgress()}
            api.attack(artifact, attack, key.benchmark, model=self.model, **options)
        return api.evaluate(artifact, key.benchmark, model=self.model, limit=self.limit, progress=RichProgress())

    def _transfer(self, artifact: Path, key: ResultKey) -> Result:
        transferred = artifact.with_name(f"{artifact.name}-on-{self.transfer_to}")
        if not transferred.is_dir():
            api.transfer(artifact, self.transfer_to, out=transferred, progress=RichProgress())
        other, limit = self.transfer_to, self.limit
        return api.evaluate(transferred, key.benchmark, model=other, limit=limit, progress=RichProgress())


def without_mutual_retention(concepts: list[Concept]) -> list[Concept]:
    """The concepts without retain prompts that mention another of them, such as prompts in an erased style."""

    def mentions_another(prompt: str, concept: Concept) -> bool:
        others = [word for other in concepts if other is not concept for word in other.words]
        return find_mention(prompt, others) is not None

    return [
        replace(c, retain_prompts=tuple(prompt for prompt in c.retain_prompts if not mentions_another(prompt, c)))
        for c in concepts
    ]


def save_image(evidence: Path, method: str, model: str) -> None:
    """Write three pairs of images of each group, before above after, as WebP; ``model`` is empty for pocket."""
    rows = json.loads((evidence / "images.json").read_text())
    picks = [row for group in IMAGE_GROUPS for row in [r for r in rows if r["group"] == group][:3]]
    images: list[Image.Image] = []
    labels: list[str] = []
    for start in range(0, len(picks), 6):
        for when in ("before", "after"):
            for row in picks[start : start + 6]:
                images.append(Image.open(evidence / row[when]).convert("RGB"))
                prompt_lines = textwrap.wrap(row["prompt"], 27)[:2]
                labels.append("\n".join([*prompt_lines, f"{when}: {row[f'detected_{when}']['object']}"]))
    title = f"{method}: weapon erased from {model or 'pocket'}"
    grid = labelled_grid(
        images, labels, title=title, subtitle="same prompts and seeds before and after", columns=6, side=160
    )
    name = f"{method}-{model}" if model else method
    size = (grid.width * 2 // 3, grid.height * 2 // 3)  # all methods' images together stay below 1.5 MB
    grid.resize(size, Image.Resampling.LANCZOS).save(DOCS / "methods" / f"{name}.webp", quality=40, method=6)


def main(
    methods: Annotated[list[str] | None, typer.Argument(help="Methods to measure; all by default.")] = None,
    benchmark: Annotated[list[str] | None, typer.Option(help="Benchmarks; the test concepts' by default.")] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds for each erasure.")] = 1,
    attack: Annotated[list[str] | None, typer.Option(help="Attacks to run, or none; synonyms by default.")] = None,
    attack_limit: Annotated[int, typer.Option(help="Maximum number of prompts of every attack but synonyms.")] = 48,
    limit: Annotated[int | None, typer.Option(help="Maximum number of images of each group; all by default.")] = None,
    model: Annotated[str, typer.Option(help="Bundled model to erase from.")] = "pocket",
    variant: Annotated[str, typer.Option(help="Name under which to store a variant of the configuration.")] = "",
    transfer_to: Annotated[str, typer.Option(help="Model to transfer each erasure to, such as pocket-sibling.")] = "",
    joint: Annotated[bool, typer.Option(help="Erase the concepts of all benchmarks at once.")] = False,
    artifacts: Annotated[
        Path | None, typer.Option(help="Folder for the erasures with their evidence; existing erasures are reused.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Set a field of the method's configuration: name=value.")
    ] = None,
) -> None:
    """Measure methods on pocket."""
    names = list(benchmark or DEFAULT_BENCHMARKS)
    attacks = [] if attack == ["none"] else attack or ["synonyms"]
    other_model = "" if model == "pocket" else model
    config = parse_settings(settings or [])
    measurement = Measurement(load_model(model), attacks, attack_limit, limit, config, transfer_to, artifacts)
    groups = [names] if joint else [[name] for name in names]
    for seed, group, method in product(range(seeds), groups, methods or METHODS.names()):
        store = ResultStore(DOCS / "results" / f"{method}.json")
        keys = [ResultKey(name, seed, variant, joint, model=other_model) for name in group]
        if measurement.missing(keys, store):
            measurement.measure(method, keys, store)


if __name__ == "__main__":
    typer.run(main)
