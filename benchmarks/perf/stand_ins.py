"""What `full_size.py` measures with: a model of Stable Diffusion 1.5's shapes with random weights, states, clocks, peak memory."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from torch import Tensor

from efface.core.seeds import derive_seed
from efface.models import loading
from efface.models.protocol import Params
from efface.models.single_file import clip_tokenizer
from efface.ops.training.trajectory_pool import TrajectoryBatch, TrajectoryPool

SD1 = Path(loading.__file__).parent / "data" / "original" / "sd1"
NARROW: dict[str, dict[str, Any]] = {
    "unet": {"block_out_channels": [32, 64, 64, 64], "norm_num_groups": 8, "sample_size": 8, "cross_attention_dim": 32},
    "text_encoder": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2},
    "vae": {"block_out_channels": [8, 16, 16, 16], "norm_num_groups": 4, "sample_size": 64},
}


def random_pipeline(device: torch.device, dtype: torch.dtype, tiny: bool) -> Any:
    """Stable Diffusion 1.5 as its configurations say, or much narrower, with weights as their layers begin."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    more = NARROW if tiny else {part: {} for part in NARROW}
    text = CLIPTextConfig.from_pretrained(SD1 / "text_encoder")
    text.update(more["text_encoder"])
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with device:
            parts = {
                "unet": UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(SD1 / "unet") | more["unet"]),
                "vae": AutoencoderKL.from_config(AutoencoderKL.load_config(SD1 / "vae") | more["vae"]),
                "text_encoder": CLIPTextModel(text),
            }
    finally:
        torch.set_default_dtype(torch.float32)
    rest = {"tokenizer": clip_tokenizer(), "scheduler": DDIMScheduler.from_pretrained(SD1 / "scheduler")}
    return StableDiffusionPipeline(
        **parts, **rest, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


@dataclass
class Clock:
    """Seconds and counts by name, with the device waited for; of the process's CPU time where ``busy``, else of the wall's."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    busy: ClassVar[bool] = False

    @contextmanager
    def measure(self, name: str, count: int = 1) -> Iterator[None]:
        """Adds the body's seconds."""
        began = self.now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - began
        self.counts[name] = self.counts.get(name, 0) + count

    def now(self) -> float:
        """Seconds, once the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.busy else time.perf_counter()

    def wrapped(self, name: str, function: Callable[..., Any], sampling: Clock | None = None) -> Callable[..., Any]:
        """The function with its seconds counted; what it spends on sampling is noted as ``<name>: sampling``."""

        def call(*given: Any, **named: Any) -> Any:
            before = sampling.seconds.get("sampling", 0.0) if sampling else 0.0
            with self.measure(name):
                out = function(*given, **named)
            after = sampling.seconds.get("sampling", 0.0) if sampling else 0.0
            self.seconds[f"{name}: sampling"] = self.seconds.get(f"{name}: sampling", 0.0) + after - before
            return out

        return call


class StepTimes:
    """A run's progress: seconds of each step, told as they come."""

    def __init__(self, clock: Clock, say: Callable[[str], None]) -> None:
        self.clock, self.say, self.steps, self.began = clock, say, list[float](), 0.0

    def start(self, phase: str, total: int, done: int) -> None:
        """Begins to count."""
        self.began = self.clock.now()

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """A step is over."""
        now = self.clock.now()
        self.steps.append(now - self.began)
        self.say(f"step {done}: {self.steps[-1]:.2f} s")
        self.began = now

    def stop(self) -> None:
        """Nothing."""


class Filled(TrajectoryPool):
    """A pool of the true size that holds noise in place of trajectories: a step that draws from it costs the same."""

    def _generate(self, numbers: Sequence[int], params: Params | None) -> Tensor:
        model: Any = self.model
        model.scheduler.set_timesteps(self.num_inference_steps)
        self.timesteps = model.scheduler.timesteps.cpu()
        shape = model.initial_noise([0]).shape[1:]
        return torch.randn(len(numbers), 3, self.num_inference_steps, *shape, device=self.storage_device, dtype=model.unet.dtype)


class Resampled(Filled):
    """No pool, as published: a batch's states are made when they are asked for, by sampling from noise to a timestep drawn evenly.

    That timestep is shared by the batch, which is the cheapest for the published form, and the last pass of the sampling gives the
    original's predictions, too. ``limit`` stops after so many of the guided steps that were due (two passes each, run as one).
    """

    clock: ClassVar[Clock]
    limit: ClassVar[int] = 0
    made: ClassVar[int] = 0

    def _generate(self, numbers: Sequence[int], params: Params | None) -> Tensor:
        return super()._generate(numbers[:1], params)[:, :, :, :1, :1, :1].expand(len(numbers), -1, -1, -1, -1, -1)

    def _batch(self, runs: Tensor, steps: Tensor) -> TrajectoryBatch:
        due, cls, device = int(steps[0]) + 1, type(self), self.model.device
        prompt = (runs % len(self.prompts)).to(device)
        seeds = [derive_seed(self.seed, "resampled", cls.made, row) for row in range(len(runs))]
        cls.made += 1
        last = min(due, cls.limit or due)
        with cls.clock.measure("sampling", last):
            points = self.model.trajectory(self.cond[prompt], num_inference_steps=self.num_inference_steps, guidance_scale=self.guidance_scale, seeds=seeds)
            point = list(islice(points, last))[-1]
        t = torch.full((len(runs),), point.t, device=device)
        return TrajectoryBatch(
            point.z, t, prompt, self.cond[prompt], point.conditional.value, point.unconditional.value, runs, steps
        )


@contextmanager
def states_from(kind: type[TrajectoryPool]) -> Iterator[None]:
    """The library's functions take their states from another pool."""
    with (
        patch("efface.ops.text.concept_prompts.TrajectoryPool", kind),
        patch("efface.ops.retention.relation_graph.TrajectoryPool", kind),
    ):
        yield


class Peak:
    """Peak memory from here on in GB: CUDA's allocations, or on a CPU the process's resident memory."""

    def __init__(self, device: torch.device) -> None:
        gc.collect()
        self.device, self.exact = device, True
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins again
        except OSError:
            self.exact = False

    @property
    def what(self) -> str:
        """Which memory."""
        return (
            "torch.cuda.max_memory_allocated" if self.device.type == "cuda" else "peak resident memory of the process"
        )

    def gigabytes(self) -> float:
        """The peak so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        if not self.exact:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
