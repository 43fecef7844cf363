"""CPU time of a training step and peak memory of every trained method on pocket, as ratios to ESD's.

Each method runs with its preset for pocket in a process of its own: a few steps, and few trajectories, images and
templates, which do not change the cost of a step. The first steps are not counted; the median of the others is. ESD is
measured before and after the others. Memory is the peak of the process beyond the loaded model, pool and images
included. CPU time on one thread hardly depends on other load. The JSON is the source of the table in docs/methods.md.
Usage: ``python benchmarks/perf/methods.py [METHOD ...]``; methods that are not named keep their numbers.
"""

from __future__ import annotations

import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from clocks import Peak

from efface.benchmarks.benchmark import Benchmark
from efface.core.registry import METHODS
from efface.core.serialization import json_bytes
from efface.core.spec import RunSpec
from efface.execution import resolve_config
from efface.models.loading import load_model
from efface.ops.training.run import Run

REFERENCE, PRESET = "esd", "pocket"
OUT = Path(__file__).with_suffix(".json")
UNCOUNTED_STEPS, COUNTED_STEPS = 2, 6
FEW: dict[str, Any] = {
    "steps": UNCOUNTED_STEPS + COUNTED_STEPS,
    "warmup_steps": 1,
    "num_inference_steps": 5,
    "num_templates": 8,
    "trajectories_per_prompt": 1,
    "retain_trajectories": 2,
    "num_images": 24,
    "domain_images": 24,
    "saliency_maps": 1,
    "saliency_steps": 1,
}
"""Settings that shorten a run without changing the cost of one of its steps."""


class StepClock:
    """Progress of a run that records the CPU seconds of each step of its last training loop."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def start(self, phase: str, total: int, done: int) -> None:
        """Start a loop."""
        self._steps: list[float] = []
        self._began = time.process_time()

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """Record a finished step; generating images is no step."""
        now = time.process_time()
        if "grad_norm" in losses:
            self._steps.append(now - self._began)
            self.seconds = self._steps
        self._began = now

    def stop(self) -> None:
        """Do nothing."""


def measure(name: str) -> dict[str, float]:
    """Train a few steps in this process."""
    torch.set_num_threads(1)
    model, clock = load_model("pocket"), StepClock()
    config: Any = resolve_config(METHODS.get(name), PRESET, "pocket", {})[0]
    few = replace(config, **{key: value for key, value in FEW.items() if hasattr(config, key)})
    model.sample(["a cat"], seeds=[0], num_inference_steps=2)
    gc.collect()
    peak = Peak(model.device)
    before = peak.gigabytes()
    concepts = (Benchmark.load("pocket-instrument").concept,)
    method: Any = METHODS.get(name)
    method(model, concepts, few, Run(spec=RunSpec("pocket", {}, name, {}, concepts), progress=clock))
    return {
        "seconds_per_step": statistics.median(clock.seconds[UNCOUNTED_STEPS:]),
        "peak_memory_mib": (peak.gigabytes() - before) * 1e9 / 2**20,
        "steps": config.steps,
        "batch_size": config.batch_size,
    }


def measure_elsewhere(name: str) -> dict[str, float]:
    """Measure a method in a process of its own."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, name, "--here"]
    numbers: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return numbers


def main(
    methods: Annotated[
        list[str] | None, typer.Argument(help="Methods to measure; all trained ones by default.")
    ] = None,
    here: Annotated[bool, typer.Option("--here", hidden=True, help="Measure one method in this process.")] = False,
    out: Annotated[Path, typer.Option(help="Output file.")] = OUT,
) -> None:
    """Measure methods and write the JSON."""
    trained = [m for m in METHODS.names() if METHODS.card(m).needs_gradient and "sd1" in METHODS.card(m).families]
    if here:
        print(json.dumps(measure((methods or trained)[0])))
        return
    runs = [measure_elsewhere(REFERENCE)]
    measured = {name: measure_elsewhere(name) for name in methods or trained if name != REFERENCE}
    runs.append(measure_elsewhere(REFERENCE))
    esd = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
    rows: dict[str, dict[str, float]] = json.loads(out.read_text())["methods"] if out.is_file() else {}
    for name, numbers in {REFERENCE: esd, **measured}.items():
        relative = {
            "relative_seconds_per_step": numbers["seconds_per_step"] / esd["seconds_per_step"],
            "relative_peak_memory": numbers["peak_memory_mib"] / esd["peak_memory_mib"],
        }
        rows[name] = {**numbers, **relative}
    content = {"methods": dict(sorted(rows.items())), "machine": platform.machine(), "torch": torch.__version__}
    out.write_bytes(json_bytes(content))


if __name__ == "__main__":
    typer.run(main)
