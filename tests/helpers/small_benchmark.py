"""Shipped benchmarks with fewer sampling steps, and with one image of the groups that a test does not need."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import yaml

from efface.benchmarks.benchmark import data_folder
from efface.benchmarks.samples import GROUPS


def small_benchmark(
    folder: Path, name: str = "pocket-weapon", num_inference_steps: int = 2, groups: Collection[str] = GROUPS
) -> Path:
    """A shipped benchmark's file with fewer sampling steps; with 8 or more, pocket's images keep their content.

    Every group but those given has one image.
    """
    data = yaml.safe_load((data_folder() / f"{name}.yaml").read_text())
    path = folder / f"small-{name}.yaml"
    for split in data["splits"].values():
        for group in set(GROUPS).difference(groups):
            first = split["groups"][group]["phrases"][:1]
            split["groups"][group] = {"templates": 1, "seeds": 1, "phrases": first}
    sampler = {**data["sampler"], "num_inference_steps": num_inference_steps}
    path.write_text(yaml.safe_dump({**data, "name": path.stem, "sampler": sampler}))
    return path
