"""Time and memory at Stable Diffusion 1.5's true size. ``python benchmarks/perf/full_size.py [--device cuda --dtype bf16]``.

Random weights. Measured are searches (inside-out against outside-in), one step of SAGE and of AdvUnlearn with and without the pool, SAGE's
peak memory and loading; what a run of SAGE would take is extrapolated. The library's own functions are timed; only where their states come
from is changed (`stand_ins`). With ``--search-steps`` and ``--guided-steps`` few steps are measured, the rest is linear in them; every
number says which. The JSON is written after each part; with ``--only``, the others stay as they are in it. ``--tiny`` runs the same on a
narrow model, in seconds.
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
from full_size_parts import PARTS, Bench
from rich.console import Console
from rich.table import Table
from stand_ins import Clock, Peak, random_pipeline

from efface.core.errors import EffaceError
from efface.core.io import atomic_write_json, read_json
from efface.models.loading import DTYPES
from efface.models.stable_diffusion import StableDiffusionModel

GOALS = {
    "ratio_as_published": ">= 62.1, aim 100", "ratio_without_pool": "AdvUnlearn: aim 10", "peak_gb": "<= 8 in bf16 on a GPU",
}  # fmt: skip


def machine(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Where it was measured."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    cpu = next(
        (row.partition(":")[2].strip() for row in info.splitlines() if row.startswith("model name")),
        platform.processor(),
    )
    found = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": device.type,
    }
    if device.type == "cuda":
        found |= {
            "gpu": torch.cuda.get_device_name(device),
            "gpu_gb": torch.cuda.get_device_properties(device).total_memory / 1e9,
        }
    return {**found, "dtype": str(dtype).removeprefix("torch."), "python": platform.python_version()}


def sizes(model: StableDiffusionModel) -> dict[str, Any]:
    """What was measured on."""
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
    """The results so far, on disk after each part."""

    out: Path
    console: Console
    content: dict[str, Any] = field(default_factory=dict)

    def add(self, bench: Bench, part: str) -> None:
        """Measures a part; what cannot be measured here is noted with the reason."""
        self.console.rule(part)
        bench.keep = lambda found: self.write(part, {**found, "not_measured": "the rest: stopped before"})
        try:
            self.write(part, getattr(bench, part)())
        except (EffaceError, RuntimeError, MemoryError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.write(part, {"not_measured": reason})
            self.console.print(f"not measured: {reason}")

    def earlier(self) -> dict[str, Any]:
        """Parts that the file holds already, if the same was measured on the same machine."""
        found: Any = read_json(self.out) if self.out.is_file() else {}
        same = all(found.get(key) == self.content[key] for key in ("machine", "model", "settings", "beside"))
        return {part: found[part] if same else {"not_measured": "not asked for (--only)"} for part in PARTS}

    def write(self, part: str, found: dict[str, Any]) -> None:
        """What is known of a part so far."""
        self.content[part] = found
        atomic_write_json(self.out, self.content)

    def table(self) -> Table:
        """Every number in a row."""
        table = Table("part", "what", "value", "how", "from", "goal", title=str(self.content["machine"]["cpu"]))
        for part in PARTS:
            for name, row in self.content[part].items():
                shown = row if isinstance(row, dict) else {"value": row}
                value = next((shown[key] for key in ("seconds", "minutes", "value") if key in shown), "")
                unit = next((key for key in ("seconds", "minutes") if key in shown), "")
                said = f"{value:.4g} {unit}" if isinstance(value, float) else str(value)
                table.add_row(
                    part,
                    name,
                    said,
                    shown.get("how", ""),
                    shown.get("from", ""),
                    GOALS.get(name.removeprefix("advunlearn_"), ""),
                )
        return table


def main(
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    dtype: Annotated[str, typer.Option(help="fp32, fp16 or bf16")] = "fp32",
    tiny: Annotated[bool, typer.Option("--tiny", help="a narrow model")] = False,
    only: Annotated[str, typer.Option(help=f"parts, with commas: {', '.join(PARTS)}")] = ",".join(PARTS),
    batch: Annotated[int, typer.Option(help="sentences of a search; SAGE's default")] = 4,
    search_steps: Annotated[
        int, typer.Option(help="steps of an outside-in search that are measured, 0: all 30; CUDA all, CPU 2")
    ] = -1,
    guided_steps: Annotated[
        int, typer.Option(help="guided sampling steps measured for each state, 0: all due; CUDA all, CPU 2")
    ] = -1,
    rounds: Annotated[int, typer.Option(help="training steps that are measured; CUDA 5, CPU 1")] = 0,
    cpu_time: Annotated[
        bool, typer.Option("--cpu-time", help="CPU time of the process, where others use the same cores")
    ] = False,
    beside: Annotated[str, typer.Option(help="what else ran on the machine, for the JSON")] = "",
    out: Annotated[Path, typer.Option(help="the JSON")] = Path("full_size.json"),
) -> None:
    """Measure, write the JSON and print a table."""
    asked = only.split(",")
    if unknown := set(asked) - set(PARTS):
        raise typer.BadParameter(f"no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    where, kind, gpu = torch.device(device), getattr(torch, DTYPES[dtype]), device != "cpu"
    few, Clock.busy = 0 if gpu else 2, cpu_time
    console = Console(stderr=True)
    console.print(f"building a {'narrow' if tiny else 'full-size'} model with random weights on {device} in {dtype}")
    before = Peak(where).gigabytes()
    model = StableDiffusionModel(random_pipeline(where, kind, tiny), "random")
    settings = {
        "batch": batch, "search_steps_measured": few if search_steps < 0 else search_steps,
        "guided_steps_measured": few if guided_steps < 0 else guided_steps, "rounds": rounds or (5 if gpu else 1),
    }  # fmt: skip
    bench = Bench(model, **settings, before=before, say=console.print)
    told = {"machine": machine(where, kind) | {"clock": "process CPU time" if cpu_time else "wall"}, "beside": beside}
    report = Report(out, console, {**told, "model": sizes(model), "settings": settings})
    earlier = report.earlier()
    report.content |= {part: {"not_measured": "stopped before"} if part in asked else earlier[part] for part in PARTS}
    for part in (part for part in PARTS if part in asked):
        report.add(bench, part)
    Console(width=None if console.is_terminal else 180).print(report.table())
    print(json.dumps({"written": str(out)}))


if __name__ == "__main__":
    typer.run(main)
