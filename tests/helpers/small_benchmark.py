"""Shipped benchmarks with fewer sampling steps and, where no score of it is needed, without the domain."""

from __future__ import annotations

from pathlib import Path

import yaml

from efface.benchmarks.benchmark import data_folder


def small_benchmark(
    folder: Path, name: str = "pocket-weapon", num_inference_steps: int = 2, *, domain: bool = True
) -> Path:
    """A shipped benchmark's file with fewer sampling steps; with 8 or more, pocket's images keep their content.

    Without the domain, this group has one image.
    """
    data = yaml.safe_load((data_folder() / f"{name}.yaml").read_text())
    path = folder / f"small-{name}.yaml"
    if not domain:
        for split in data["splits"].values():
            group = split["groups"]["domain"]
            split["groups"]["domain"] = {"templates": 1, "seeds": 1, "phrases": group["phrases"][:1]}
    sampler = {**data["sampler"], "num_inference_steps": num_inference_steps}
    path.write_text(yaml.safe_dump({**data, "name": path.stem, "sampler": sampler}))
    return path
