"""Shipped benchmarks with fewer sampling steps."""

from __future__ import annotations

from pathlib import Path

import yaml

from efface.benchmarks.benchmark import data_folder


def small_benchmark(folder: Path, name: str = "pocket-weapon", num_inference_steps: int = 2) -> Path:
    """A shipped benchmark's file with fewer sampling steps; with 8 or more, pocket's images keep their content."""
    data = yaml.safe_load((data_folder() / f"{name}.yaml").read_text())
    path = folder / f"small-{name}.yaml"
    sampler = {**data["sampler"], "num_inference_steps": num_inference_steps}
    path.write_text(yaml.safe_dump({**data, "name": path.stem, "sampler": sampler}))
    return path
