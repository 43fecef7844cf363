"""Measure what methods do to pocket: ``python benchmarks/effect.py [METHOD ...] [--benchmark NAME ...] [--seeds 3]``.

Every method, with its preset for pocket, erases every benchmark's concept; the synonyms attack (``--attack``: others) is tried; the test
part is evaluated. ``--label esd-text --set sites=text_all`` measures a variant under a name of its own. Results go to
``docs/results/<method>-<benchmark>-<seed>.json``, from which `docs/generate.py` makes the tables, and for pocket-weapon an image to
``docs/methods/<method>.png``. A result that is there is not measured again: remove it first.
"""

from __future__ import annotations

import json
import tempfile
import textwrap
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image

from efface import api
from efface.api.validation import load_erasure
from efface.benchmarks.benchmark import Benchmark
from efface.cli.erase import parse_settings
from efface.core.concept import Concept, find_mention
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import METHODS
from efface.core.result import Result
from efface.core.serialization import to_jsonable_dict
from efface.execution import resolve_config
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.training.progress import RichProgress
from efface.reporting.image_grid import labelled_grid

DOCS = Path(__file__).parents[1] / "docs"
DEFAULT = ("pocket-weapon", "pocket-santa", "pocket-style", "pocket-animal", "pocket-vice")
PICTURED = ("name", "domain", "near", "other")


def measure(
    model: StableDiffusionModel, method: str, targets: dict[str, Path], seed: int, settings: dict[str, str], attacks: list[str], limit: int | None,
    to: str, keep: Path | None,
) -> None:  # fmt: skip
    """Erase the concepts of these benchmarks at once; then attack, evaluate and save the result of each, and that on another model."""
    concepts = apart([concept for name in targets for concept in Benchmark.load(name).concepts])
    with nullcontext(keep) if keep else tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "-".join(path.stem for path in targets.values())
        moved = artifact.with_name(f"{artifact.name}-on-{to}")
        if not artifact.is_dir():
            api.erase(
                concepts, out=artifact, model=model, method=method, seed=seed, config=settings, progress=RichProgress()
            )
        erasure = load_erasure(artifact)
        check_kept(erasure, method, settings)
        assert erasure.cost is not None
        cost = {
            "seconds": erasure.cost.seconds,
            "threads": torch.get_num_threads(),
            "peak_memory_bytes": erasure.cost.peak_memory_bytes,
        }
        about = {
            "method": method,
            "set": settings,
            "root_seed": seed,
            "cost": cost,
            "together": list(targets) if len(targets) > 1 else [],
        }
        if to and not moved.is_dir():
            api.transfer(artifact, to, out=moved, progress=RichProgress())
        for name, target in targets.items():
            if target.exists():
                continue
            for attack in attacks:
                few = None if attack == "synonyms" else limit
                api.attack(artifact, attack, name, model=model, seed=seed, limit=few, progress=RichProgress())
            result = api.evaluate(artifact, name, model=model, progress=RichProgress())
            result = Result(result.scores, {**result.metadata, **about}, result.thresholds)
            if target.name == f"{method}-pocket-weapon-0.json":
                image(next((artifact / "evidence").glob("pocket-weapon-test-*")), method)
            if to:
                there = api.evaluate(moved, name, model=to, progress=RichProgress())
                there.save(target.with_stem(f"{target.stem}-on-{to}"))
            result.save(target)
            print(f"{target.stem}: {result.summary()}", flush=True)


def check_kept(erasure: Erasure, method: str, settings: dict[str, str]) -> None:
    """Raises `EffaceError` where an erasure that was kept is of another configuration than the one to be measured."""
    config, _ = resolve_config(METHODS.get(method), None, erasure.spec.model, settings)
    if erasure.spec.config != to_jsonable_dict(asdict(config)):
        raise EffaceError(f"{erasure.folder} was made with other settings: give --keep another folder")


def apart(concepts: list[Concept]) -> list[Concept]:
    """The concepts, whose retain sets do not name another of them: a benchmark retains in many styles, of which another erases one."""

    def others(concept: Concept) -> list[str]:
        return [word for other in concepts if other is not concept for word in other.words]

    return [
        replace(c, retain=tuple(r for r in c.retain_prompts if find_mention(r, others(c)) is None)) for c in concepts
    ]


def image(evidence: Path, method: str) -> None:
    """Three pairs of each group, before above after."""
    rows = json.loads((evidence / "images.json").read_text())
    picks = [row for group in PICTURED for row in [r for r in rows if r["group"] == group][:3]]
    sheets, labels = [], []
    for when in ("before", "after"):
        for row in picks:
            sheets.append(Image.open(evidence / row[when]).convert("RGB"))
            labels.append(
                "\n".join([*textwrap.wrap(row["prompt"], 27)[:2], f"{when}: {row[f'seen_{when}']['object']}"])
            )
    order = [i for start in range(0, 12, 6) for block in (0, 12) for i in range(block + start, block + start + 6)]
    title = f"{method}: weapon erased from pocket"
    grid = labelled_grid(
        [sheets[i] for i in order],
        [labels[i] for i in order],
        title=title,
        subtitle="the same seeds before and after",
        columns=6,
        side=160,
    )
    grid.save(DOCS / "methods" / f"{method}.png")


def main(
    methods: Annotated[list[str] | None, typer.Argument(help="which; all by default")] = None,
    benchmark: Annotated[list[str] | None, typer.Option(help="which; the test concepts by default")] = None,
    seeds: Annotated[int, typer.Option(help="runs of each")] = 1,
    attack: Annotated[list[str] | None, typer.Option(help="attacks to try, or none; synonyms by default")] = None,
    attack_limit: Annotated[int, typer.Option(help="prompts of every attack but synonyms")] = 48,
    label: Annotated[str, typer.Option(help="what to call a variant; the method's name by default")] = "",
    to: Annotated[str, typer.Option(help="another model to carry each erasure over to, such as pocket-sibling")] = "",
    together: Annotated[bool, typer.Option(help="erase the concepts of all these benchmarks at once")] = False,
    keep: Annotated[
        Path | None,
        typer.Option(help="a folder for the erasures with their evidence; one that is there is not made again"),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="a field of the method's configuration: name=value")
    ] = None,
) -> None:
    """Measure."""
    names, chosen = list(benchmark or DEFAULT), parse_settings(settings or [])
    attacks = [] if attack == ["none"] else attack or ["synonyms"]
    model = load_model("pocket")
    for seed in range(seeds):
        for group in [names] if together else [[name] for name in names]:
            for method in methods or METHODS.names():
                stem = f"{label or method}{'-together' * together}"
                targets = {name: DOCS / "results" / f"{stem}-{name}-{seed}.json" for name in group}
                if not all(target.exists() for target in targets.values()):
                    measure(model, method, targets, seed, chosen, attacks, attack_limit, to, keep)


if __name__ == "__main__":
    typer.run(main)
