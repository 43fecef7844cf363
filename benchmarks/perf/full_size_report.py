"""The report of `full_size.py`: machine, model and the numbers of each part, as JSON and as a table."""

from __future__ import annotations

import os
import platform
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from full_size_budget import Budget
from full_size_more import ALL_PARTS, FullBench
from full_size_timing import number
from rich.console import Console
from rich.table import Table

from efface.core.io import atomic_write_json, read_json
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
    description: dict[str, Any] = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": device.type,
    }
    if device.type == "cuda":
        description |= {
            "cuda": torch.version.cuda,
            "gpu": torch.cuda.get_device_name(device),
            "gpu_gb": torch.cuda.get_device_properties(device).total_memory / 1e9,
        }
    return {
        **description,
        "dtype": str(dtype).removeprefix("torch."),
        "python": platform.python_version(),
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }


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

    def add(self, bench: FullBench, part: str, budget: Budget) -> None:
        """Measure a part; what cannot be measured here or in time is recorded beside the numbers so far."""
        self.console.rule(part)
        bench.keep = lambda numbers: self.write(part, {**numbers, "not_measured": "the rest: interrupted"})
        began = time.perf_counter()
        try:
            with budget.part(part):
                numbers = getattr(bench, part)()
        except Exception as error:  # whatever fails, the other parts are measured
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            numbers = {**self.content[part], "not_measured": reason}
            trace = "".join(traceback.format_exception(error)[-12:])
            self.console.print(f"{trace}not measured: {reason}", markup=False)
        duration = number(time.perf_counter() - began, False, "the whole part")
        self.write(part, {**numbers, "duration": duration})

    def earlier(self) -> dict[str, Any]:
        """Parts of the existing file, if it has the same settings, model and machine."""
        existing: Any = read_json(self.out) if self.out.is_file() else {}
        same = all(existing.get(key) == self.content[key] for key in ("machine", "model", "settings", "beside"))
        known = existing if same else {}
        return {part: known.get(part, {"not_measured": "left out by --only"}) for part in ALL_PARTS}

    def write(self, part: str, numbers: dict[str, Any]) -> None:
        """Write the numbers of a part."""
        self.content[part] = numbers
        atomic_write_json(self.out, self.content)

    def table(self) -> Table:
        """All numbers as a table."""
        table = Table("part", "what", "value", "how", "from", "goal", title=str(self.content["machine"]["cpu"]))
        for part in ALL_PARTS:
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
