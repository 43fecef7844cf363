"""EraseAnything at the true size of FLUX.1-dev and SD3, for ``full_size.py --model flux`` and ``--model sd3``.

The parameters of every component are counted without memory. A training step is measured on a transformer of the true
width with random weights: the whole one on a GPU, a few blocks on a CPU (``--blocks``). Text encoders of the true
width, but of one or two layers, stand in for CLIP and T5, which do not run in a step. Beside it the same step is
written plainly, with PEFT's LoRA and without the terms that read attention.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from clocks import Clock, Peak, StepTimes
from flow_models import MODULES, lora_parameters, memory, parameter_counts, random_flow_model
from full_size_report import machine
from peft import LoraConfig
from rich.console import Console

from efface.core.concept import Concept
from efface.core.io import atomic_write_json
from efface.core.spec import RunSpec
from efface.methods import erase_anything
from efface.ops.training.run import Run

CONCEPT = Concept("cat", retain_prompts=("a photo of a dog", "a photo of a car", "a photo of a lamp"))


@dataclass
class FlowBench:
    """Times EraseAnything's steps on a flow model.

    Attributes:
        model: the model with random weights.
        rounds: measured pairs of an erasing and a preserving step.
        say: shows progress.
    """

    model: Any
    rounds: int
    say: Callable[[str], None] = print

    def method(self) -> dict[str, Any]:
        """Seconds of an erasing and a preserving step of the library's own method, and the peak memory."""
        clock, peak = Clock(self.model.device), Peak(self.model.device)
        config = erase_anything.Config(
            steps=2 * (1 + self.rounds), num_images=1, num_inference_steps=1,
            guidance_scale=self.model.default_guidance_scale,
        )  # fmt: skip
        progress = StepTimes(clock, self.say)
        run = Run(
            device=self.model.device, progress=progress,
            spec=RunSpec(self.model.name, {}, "erase_anything", {}, (CONCEPT,)),
        )  # fmt: skip
        erase_anything.erase_anything(self.model, [CONCEPT], config, run)
        steps = progress.steps[-2 * self.rounds :]
        return {
            "erase_seconds": fmean(steps[::2]), "preserve_seconds": fmean(steps[1::2]), "peak_gb": peak.gigabytes(),
            "peak_is": peak.what,
        }  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """The same steps with PEFT's LoRA in a plain loop, without the terms that read attention."""
        model, clock, peak = self.model, Clock(self.model.device), Peak(self.model.device)
        model.transformer.add_adapter(LoraConfig(r=8, lora_alpha=8, target_modules=MODULES[model.family]))
        parameters = [p for p in model.transformer.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=1e-3)
        z, cond = model.initial_noise([0]), model.encode(["a cat", "a photo", "a dog", "a car"])
        seconds: dict[str, list[float]] = {"erase_seconds": [], "preserve_seconds": []}
        for _ in range(1 + self.rounds):
            for name, extra in (("erase_seconds", 2), ("preserve_seconds", 4)):
                began = clock.now()
                with torch.no_grad():
                    model.transformer.disable_adapters()
                    rows = [cond[:1]] * extra
                    joint = type(cond).cat(rows)
                    target = model.predict(z.expand(extra, -1, -1, -1), 500, joint).value[:1]
                    model.transformer.enable_adapters()
                (model.predict(z, 500, cond[:1]).value - target).float().square().mean().backward()
                optimiser.step()
                optimiser.zero_grad()
                seconds[name].append(clock.now() - began)
                self.say(f"plain {name}: {seconds[name][-1]:.2f}")
        model.transformer.delete_adapters("default")
        return {**{name: fmean(values[1:]) for name, values in seconds.items()}, "peak_gb": peak.gigabytes()}


def measure_flow(
    family: str, blocks: int, pixels: int, rounds: int, device: torch.device, dtype: torch.dtype, beside: str,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Counts the model, and measures a step of EraseAnything beside a plain one."""
    counts = parameter_counts(family)
    model = random_flow_model(family, blocks, pixels, device, dtype)
    bench = FlowBench(model, rounds, say)
    ours, plain = bench.method(), bench.plain()
    ratio = sum(ours[k] for k in ("erase_seconds", "preserve_seconds")) / sum(
        plain[k] for k in ("erase_seconds", "preserve_seconds")
    )
    return {
        "machine": machine(device, dtype), "beside": beside, "model": family,
        "clock": "process CPU time" if Clock.busy else "wall",
        "parameters": counts, "counted_gb": memory(family, rank=8), "lora_parameters": lora_parameters(family, rank=8),
        "measured": {
            "blocks": blocks or "all", "pixels": pixels, "text_tokens": model.encode(["a"]).states.shape[1],
            "image_tokens": model.num_image_tokens, "rounds": rounds,
            "transformer_parameters": sum(p.numel() for p in model.transformer.parameters()),
            "erase_anything": ours, "plain_without_attention_terms": plain, "ratio_to_plain": ratio,
        },
    }  # fmt: skip


def write_flow(
    out: Path, family: str, blocks: int, pixels: int, rounds: int, device: torch.device, dtype: torch.dtype, beside: str
) -> None:
    """Measures as `measure_flow` does, and writes and prints the JSON; -1 blocks and 0 rounds are the defaults."""
    is_cpu = device.type == "cpu"
    blocks, rounds = int(is_cpu) if blocks < 0 else blocks, rounds or (1 if is_cpu else 5)
    found = measure_flow(family, blocks, pixels, rounds, device, dtype, beside, Console(stderr=True).print)
    atomic_write_json(out, found)
    print(json.dumps(found, indent=1))
