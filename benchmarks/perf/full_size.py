"""Time and memory at Stable Diffusion 1.5's true size: ``python benchmarks/perf/full_size.py [--device cuda]``.

The weights are random. Measured are searches (inside-out and outside-in), one step of SAGE and of AdvUnlearn with and
without the pool, SAGE's peak memory, and loading. The duration of a run of SAGE is extrapolated. The library's own
functions are timed; only their pool is replaced (`stand_ins`). With ``--search-steps`` and ``--guided-steps`` few
steps are measured and the rest is extrapolated linearly; every number names its source. The JSON is written after
each part; with ``--only``, other parts are unchanged. ``--tiny`` runs the same on a narrow model in seconds.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from clocks import Clock, Peak
from full_size_parts import PARTS, Bench
from rich.console import Console
from rich.table import Table
from stand_ins import random_pipeline

from efface.core.errors import EffaceError
from efface.core.io import atomic_write_json, read_json
from efface.models.model_ref import DTYPES
from efface.models.stable_diffusion import StableDiffusionModel

GOALS = {
    "ratio_as_published": ">= 62.1, aim 100",
    "ratio_without_pool": "AdvUnlearn: aim 10",
    "peak_gb": "<= 8 in bf16 on a GPU",
}


def machine(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Description of the machine."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    cpu = next(
        (row.partition(":")[2].strip() for row in info.splitlines() if row.startswith("model name")),
        platform.processor(),
    )
    description = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": device.type,
    }
    if device.type == "cuda":
        description |= {
            "gpu": torch.cuda.get_device_name(device),
            "gpu_gb": torch.cuda.get_device_properties(device).total_memory / 1e9,
        }
    return {**description, "dtype": str(dtype).removeprefix("torch."), "python": platform.python_version()}


def sizes(model: StableDiffusionModel) -> dict[str, Any]:
    """Sizes of the model."""
    millions = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.components.items()}
    total = sum(p.nbytes for part in model.components.values() for p in part.parameters())
    latent = list(model.initial_noise([0]).shape[1:])
    tokens, width = model.encode([""]).states.shape[1:]
    return {
        "weights": "random",
        "millions": millions,
        "weights_gb": total / 1e9,
        "latent": latent,
        "tokens": tokens,
        "width": width,
    }


@dataclass
class Report:
    """The results so far, written to disk after each part."""

    out: Path
    console: Console
    content: dict[str, Any] = field(default_factory=dict)

    def add(self, bench: Bench, part: str) -> None:
        """Measure a part, or record why it cannot be measured here."""
        self.console.rule(part)
        bench.keep = lambda numbers: self.write(part, {**numbers, "not_measured": "the rest: interrupted"})
        try:
            self.write(part, getattr(bench, part)())
        except (EffaceError, RuntimeError, MemoryError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.write(part, {"not_measured": reason})
            self.console.print(f"not measured: {reason}")

    def earlier(self) -> dict[str, Any]:
        """Parts of the existing file, if it has the same settings, model and machine."""
        existing: Any = read_json(self.out) if self.out.is_file() else {}
        same = all(existing.get(key) == self.content[key] for key in ("machine", "model", "settings", "beside"))
        return {part: existing[part] if same else {"not_measured": "left out by --only"} for part in PARTS}

    def write(self, part: str, numbers: dict[str, Any]) -> None:
        """Write the numbers of a part."""
        self.content[part] = numbers
        atomic_write_json(self.out, self.content)

    def table(self) -> Table:
        """All numbers as a table."""
        table = Table("part", "what", "value", "how", "from", "goal", title=str(self.content["machine"]["cpu"]))
        for part in PARTS:
            for name, row in self.content[part].items():
                shown = row if isinstance(row, dict) else {"value": row}
                value = next((shown[key] for key in ("seconds", "minutes", "value") if key in shown), "")
                unit = next((key for key in ("seconds", "minutes") if key in shown), "")
                text = f"{value:.4g} {unit}" if isinstance(value, float) else str(value)
                table.add_row(
                    part,
                    name,
                    text,
                    shown.get("how", ""),
                    shown.get("from", ""),
                    GOALS.get(name.removeprefix("advunlearn_"), ""),
                )
        return table


def main(
    device: Annotated[str, typer.Option(help="Device: cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Precision: fp32, fp16 or bf16.")] = "fp32",
    tiny: Annotated[bool, typer.Option("--tiny", help="Use a narrow model.")] = False,
    only: Annotated[str, typer.Option(help=f"Parts to measure, with commas: {', '.join(PARTS)}.")] = ",".join(PARTS),
    batch: Annotated[int, typer.Option(help="Number of prompts of a search.")] = 4,
    search_steps: Annotated[
        int, typer.Option(help="Measured steps of an outside-in search; 0: all 30. Default: all on CUDA, 2 on a CPU.")
    ] = -1,
    guided_steps: Annotated[
        int, typer.Option(help="Measured guided steps for each state; 0: all. Default: all on CUDA, 2 on a CPU.")
    ] = -1,
    rounds: Annotated[int, typer.Option(help="Measured training steps; 0: 5 on CUDA, 1 on a CPU.")] = 0,
    cpu_time: Annotated[
        bool, typer.Option("--cpu-time", help="Measure CPU time instead of wall time, on a shared machine.")
    ] = False,
    beside: Annotated[str, typer.Option(help="Other load on the machine, for the JSON.")] = "",
    out: Annotated[Path, typer.Option(help="Output file.")] = Path("full_size.json"),
) -> None:
    """Measure, write the JSON and print a table."""
    chosen = only.split(",")
    if unknown := set(chosen) - set(PARTS):
        raise typer.BadParameter(f"unknown part {', '.join(sorted(unknown))}: choose of {', '.join(PARTS)}")
    on_gpu = device != "cpu"
    default_steps = 0 if on_gpu else 2
    Clock.busy = cpu_time
    settings = {
        "batch": batch,
        "search_steps_measured": default_steps if search_steps < 0 else search_steps,
        "guided_steps_measured": default_steps if guided_steps < 0 else guided_steps,
        "rounds": rounds or (5 if on_gpu else 1),
    }
    measure(torch.device(device), getattr(torch, DTYPES[dtype]), tiny, chosen, settings, beside, out)


def measure(
    device: torch.device,
    dtype: torch.dtype,
    tiny: bool,
    chosen: list[str],
    settings: dict[str, int],
    beside: str,
    out: Path,
) -> None:
    """Measure the chosen parts on a model with random weights."""
    console = Console(stderr=True)
    console.print(f"building a {'narrow' if tiny else 'full-size'} model with random weights on {device} in {dtype}")
    before = Peak(device).gigabytes()
    model = StableDiffusionModel(random_pipeline(device, dtype, tiny), "random")
    bench = Bench(model, **settings, before=before, say=console.print)
    clock = {"clock": "process CPU time" if Clock.busy else "wall"}
    conditions = {"machine": machine(device, dtype) | clock, "beside": beside}
    report = Report(out, console, {**conditions, "model": sizes(model), "settings": settings})
    earlier = report.earlier()
    report.content |= {part: {"not_measured": "interrupted"} if part in chosen else earlier[part] for part in PARTS}
    for part in (part for part in PARTS if part in chosen):
        report.add(bench, part)
    Console(width=None if console.is_terminal else 180).print(report.table())
    print(json.dumps({"written": str(out)}))


if __name__ == "__main__":
    typer.run(main)
