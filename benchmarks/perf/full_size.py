"""Time and memory at Stable Diffusion 1.5's true size: ``python benchmarks/perf/full_size.py [--device cuda]``.

The weights are random. Measured are searches (inside-out and outside-in), one step of SAGE and of AdvUnlearn with and
without the pool, SAGE's peak memory, and loading. The duration of a run of SAGE is extrapolated. The library's own
functions are timed; only their pool is replaced (`stand_ins`). With ``--search-steps`` and ``--guided-steps`` few
steps are measured and the rest is extrapolated linearly; every number names its source. The JSON is written after
each part; with ``--only``, other parts are unchanged. ``--tiny`` runs the same on a narrow model in seconds.

``--model flux`` and ``--model sd3`` count these models and measure EraseAnything's step (`full_size_flow`).

``benchmarks/gpu.sh SECONDS`` measures every part on a GPU. With ``--until``, a part that no longer fits is skipped and
one that takes too long is interrupted (`full_size_budget`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from clocks import Clock, Peak
from full_size_budget import Budget
from full_size_flow import write_flow
from full_size_more import ALL_PARTS, FullBench
from full_size_parts import PARTS
from full_size_report import Report, machine, sizes
from random_models import random_pipeline
from rich.console import Console

from efface.models.model_ref import DTYPES
from efface.models.stable_diffusion import StableDiffusionModel


def main(
    device: Annotated[str, typer.Option(help="Device: cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Precision: fp32, fp16 or bf16.")] = "fp32",
    model: Annotated[str, typer.Option(help="Model: sd1, flux or sd3.")] = "sd1",
    blocks: Annotated[int, typer.Option(help="Blocks of FLUX or SD3; 0: all. Default: all on CUDA, 1 on a CPU.")] = -1,
    pixels: Annotated[int, typer.Option(help="Height and width of the images of FLUX or SD3.")] = 1024,
    tiny: Annotated[bool, typer.Option("--tiny", help="Use a narrow model.")] = False,
    only: Annotated[
        str, typer.Option(help=f"Parts to measure, with commas, in order: {', '.join(ALL_PARTS)}.")
    ] = ",".join(PARTS),
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
    until: Annotated[float, typer.Option(help="Unix time at which everything must be finished; 0: no limit.")] = 0.0,
    beside: Annotated[str, typer.Option(help="Other load on the machine, for the JSON.")] = "",
    out: Annotated[Path, typer.Option(help="Output file.")] = Path("full_size.json"),
) -> None:
    """Measure, write the JSON and print a table."""
    chosen = only.split(",")
    if unknown := set(chosen) - set(ALL_PARTS):
        raise typer.BadParameter(f"unknown part {', '.join(sorted(unknown))}: choose of {', '.join(ALL_PARTS)}")
    Clock.busy = cpu_time
    where = torch.device(device), getattr(torch, DTYPES[dtype])
    if model != "sd1":
        write_flow(out, model, blocks, pixels, rounds, *where, beside)
        return
    settings = _settings(batch, search_steps, guided_steps, rounds, device != "cpu")
    measure(*where, tiny, chosen, settings, Budget(until), beside, out)


def _settings(batch: int, search_steps: int, guided_steps: int, rounds: int, on_gpu: bool) -> dict[str, Any]:
    """The numbers of steps to measure; by default all on a GPU, few on a CPU."""
    default_steps = 0 if on_gpu else 2
    return {
        "batch": batch,
        "search_steps_measured": default_steps if search_steps < 0 else search_steps,
        "guided_steps_measured": default_steps if guided_steps < 0 else guided_steps,
        "rounds": rounds or (5 if on_gpu else 1),
    }


def measure(
    device: torch.device,
    dtype: torch.dtype,
    tiny: bool,
    chosen: list[str],
    settings: dict[str, Any],
    budget: Budget,
    beside: str,
    out: Path,
) -> None:
    """Measure the chosen parts on a model with random weights."""
    console = Console(stderr=True)
    console.print(f"building a {'narrow' if tiny else 'full-size'} model with random weights on {device} in {dtype}")
    before = Peak(device).gigabytes()
    model = StableDiffusionModel(random_pipeline(device, dtype, tiny), "random")
    bench = FullBench(model, **settings, before=before, say=console.print)
    clock = {"clock": "process CPU time" if Clock.busy else "wall"}
    conditions = {"machine": machine(device, dtype) | clock, "beside": beside}
    report = Report(out, console, {**conditions, "model": sizes(model), "settings": settings})
    earlier = report.earlier()
    report.content |= {part: {"not_measured": "interrupted"} if part in chosen else earlier[part] for part in ALL_PARTS}
    if device.type == "cuda":
        bench.warm_up()
    for part in chosen:
        report.add(bench, part, budget)
    Console(width=None if console.is_terminal else 180).print(report.table())
    print(json.dumps({"written": str(out)}))


if __name__ == "__main__":
    typer.run(main)
