"""Times a method's steps for `full_size_parts.py`, and extrapolates from few of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any
from unittest.mock import patch

import torch
from clocks import Clock, Peak, StepTimes
from stand_ins import NoisePool, NoPool, states_from

import efface.methods.advunlearn as advunlearn
import efface.methods.sage as sage
from efface.core.concept import PLACEHOLDER, Concept
from efface.core.spec import RunSpec
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.adversarial import warm_start
from efface.ops.text.templates import template_library
from efface.ops.training.run import Run
from efface.ops.training.trajectory_config import DEFAULT_GUIDANCE_SCALE
from efface.ops.training.trajectory_pool import TrajectoryPool

NOUNS = (
    "table", "chair", "lamp", "window", "door", "river", "mountain", "cloud", "tree", "flower", "horse", "cow",
    "bird", "fish", "boat", "train", "car", "bicycle", "bridge", "road", "house", "garden", "kitchen", "cup",
    "plate", "spoon", "book", "clock", "coat", "hat", "shoe", "ball",
)  # fmt: skip
CONCEPT = Concept("church", retain_prompts=tuple(f"a photo of a {noun}" for noun in NOUNS))
SEARCH_FUNCTIONS = {"sage": (warm_start, "inside_out"), "advunlearn": (advunlearn, "_attack")}
"""Module and name of each method's inner search, which is replaced by a timed one."""


def number(seconds: float, extrapolated: bool, source: str, peak: float = 0.0) -> dict[str, Any]:
    """A duration, whether it was measured, from what, and the peak memory in GB if it is known."""
    row = {"seconds": seconds, "how": "extrapolated" if extrapolated else "measured", "from": source}
    return {**row, "peak_gb": peak} if peak else row


def ratio(slow: dict[str, Any], fast: dict[str, Any]) -> dict[str, Any]:
    """The ratio of two durations."""
    how = "extrapolated" if "extrapolated" in (slow["how"], fast["how"]) else "measured"
    return {
        "value": slow["seconds"] / fast["seconds"],
        "how": how,
        "from": f"{slow['seconds']:.4g} s / {fast['seconds']:.4g} s",
    }


@dataclass
class Timing:
    """Times the parts of a method on one model.

    Attributes:
        model: the model with random weights.
        batch: prompts of a search.
        search_steps_measured: measured steps of an outside-in search; 0 for all.
        guided_steps_measured: measured guided sampling steps for each state; 0 for all.
        rounds: measured training steps.
        before: GB in use before the model was built.
        say: shows progress.
        keep: receives unfinished numbers.
    """

    model: StableDiffusionModel
    batch: int
    search_steps_measured: int
    guided_steps_measured: int
    rounds: int
    before: float = 0.0
    say: Callable[[str], None] = print
    keep: Callable[[dict[str, Any]], None] = lambda found: None
    config: sage.Config = field(init=False)

    def __post_init__(self) -> None:
        self.config = sage.Config(batch_size=self.batch)
        self.full = self.config.attack_steps
        self.steps = self.search_steps_measured or self.full
        # mean number of guided steps to a state, over uniformly sampled timesteps
        self.due = (self.config.num_inference_steps + 1) / 2

    def run_for(self, method: str, clock: Clock) -> Run:
        """A run that times its steps."""
        spec = RunSpec(self.model.name, {}, method, {}, (CONCEPT,))
        return Run(device=self.model.device, progress=StepTimes(clock, self.say), spec=spec)

    def trained(self, module: Any, config: Any, states: type[TrajectoryPool]) -> tuple[list[float], Clock]:
        """Run a method with a kind of pool; returns the seconds of each step and of its parts."""
        name, clock = module.CARD.name, Clock(self.model.device)
        peak = Peak(self.model.device)
        self.begin(clock)
        run = self.run_for(name, clock)
        with states_from(states), self.timed_search(name, clock):
            getattr(module, name)(self.model, [CONCEPT], config, run)
        clock.peak = peak.gigabytes()
        steps: list[float] = run.progress.steps  # type: ignore[attr-defined]
        return steps, clock

    def timed_search(self, method: str, clock: Clock) -> AbstractContextManager[Any]:
        """Time the method's inner search; does nothing for a method without one."""
        if method not in SEARCH_FUNCTIONS:
            return nullcontext()
        owner, function_name = SEARCH_FUNCTIONS[method]
        return patch.object(owner, function_name, clock.wrapped("search", getattr(owner, function_name), clock))

    def begin(self, clock: Clock) -> None:
        """Make a clock the one that times the sampling of states."""
        NoPool.clock = clock
        NoPool.limit = self.guided_steps_measured
        NoPool.num_batches = 0

    def step_of(self, steps: list[float], clock: Clock, measured: int, what: str) -> dict[str, Any]:
        """Seconds of one step, extrapolated to the whole search and to complete sampling of every state."""
        seconds, rounds = clock.seconds, len(steps)
        inner, search = seconds.get("search: sampling", 0.0), seconds.get("search", 0.0)
        outer = seconds.get("sampling", 0.0) - inner
        search_factor, sampling_factor = self.full / measured, self.sampling_factor(clock)
        rest = sum(steps) - search - outer
        full_search = (search - inner) * search_factor + inner * search_factor * sampling_factor
        total = rest + full_search + outer * sampling_factor
        extrapolated = search_factor != 1 or sampling_factor != 1
        source = ", ".join(text for text in (f"{rounds} {what}", self.source(measured, clock)) if text)
        return number(total / rounds, extrapolated, source, clock.peak)

    def sampling_factor(self, clock: Clock) -> float:
        """Ratio of complete sampling to its measured part."""
        done = clock.counts.get("sampling", 0)
        return self.due * NoPool.num_batches / done if done and self.guided_steps_measured else 1.0

    def source(self, measured: int, clock: Clock) -> str:
        """Description of what a number was computed from."""
        texts = [f"{measured} of {self.full} search steps"] if clock.counts.get("search") else []
        if done := clock.counts.get("sampling", 0):
            each = f"{done / NoPool.num_batches:.3g}"
            texts.append(f"{each} of {self.due} guided steps for each of {NoPool.num_batches} states")
        return ", ".join(texts)

    def warm_up(self) -> None:
        """Run unmeasured steps of each kind: a GPU loads and selects its kernels in the first ones."""
        self.say("warming up")
        self.trained(sage, sage.Config(batch_size=self.batch, steps=2, warmup_steps=1, attack_steps=2), NoisePool)
        self.trained(advunlearn, advunlearn.Config(steps=1, warmup_steps=0, attack_steps=2), NoisePool)

    @cached_property
    def sage_pooled(self) -> dict[str, Any]:
        """SAGE with its pool: one guided sampling step, warm-up steps, attacked steps, and their peak memory."""
        peak, clock = Peak(self.model.device), Clock(self.model.device)
        rows = max(1, self.model.default_batch_size // 2)
        with torch.no_grad():
            cond = self.model.encode([CONCEPT.name] * rows)
            self.model.predict(self.model.initial_noise([0]), 1, cond[:1])  # the very first pass is slower
        points = self.model.trajectory(
            cond,
            num_inference_steps=self.config.num_inference_steps,
            guidance_scale=DEFAULT_GUIDANCE_SCALE,
            seeds=range(rows),
        )
        next(points)
        self.say(f"one guided step of {rows} images")
        with clock.measure("guided"):
            next(points)
        points.close()  # type: ignore[attr-defined]
        sampling_peak = peak.gigabytes()
        steps, times = self.trained(
            sage, sage.Config(batch_size=self.batch, steps=2 * self.rounds, warmup_steps=self.rounds), NoisePool
        )
        warm, attacked = fmean(steps[: self.rounds]), fmean(steps[self.rounds :])
        count = f"{self.rounds} step{'s' * (self.rounds > 1)}"
        return {
            "peak": max(sampling_peak, times.peak), "what": peak.what,
            "guided": number(
                clock.seconds["guided"] / rows, False, f"one step of {rows}, two passes each", sampling_peak
            ),
            "warm": number(warm, False, f"{count} of {self.batch} prompts"),
            "attacked": number(
                attacked, False,
                f"{count}, {self.source(self.full, times)}, 2 x {self.batch} prompts",
                times.peak,
            ),
        }  # fmt: skip

    @cached_property
    def advunlearn_pooled(self) -> dict[str, Any]:
        """One step of AdvUnlearn with its attack and the pool."""
        config = advunlearn.Config(steps=self.rounds, warmup_steps=0, attack_steps=self.steps)
        return self.step_of(*self.trained(advunlearn, config, NoisePool), self.steps, "steps of 1 + 5 prompts")

    @property
    def pooled_prompts(self) -> int:
        """Number of prompts in SAGE's two pools: the concept's, the retain prompts and the empty prompt."""
        return len([t for t in template_library(CONCEPT.kind) if t != PLACEHOLDER]) + len(CONCEPT.retain_prompts) + 1
