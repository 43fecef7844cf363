"""The clockwork of `full_size_parts.py`: a method's steps timed, and what is extrapolated from few of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any
from unittest.mock import patch

import torch
from stand_ins import Clock, Filled, Peak, Resampled, StepTimes, states_from

import efface.methods.advunlearn as advunlearn
import efface.methods.sage as sage
import efface.ops.adversarial.warm_start as earlier
from efface.core.concept import PLACEHOLDER, Concept
from efface.core.spec import RunSpec
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.text.templates import template_library
from efface.ops.training.run import Run
from efface.ops.training.trajectory_pool import TrajectoryPool

NOUNS = (
    "table", "chair", "lamp", "window", "door", "river", "mountain", "cloud", "tree", "flower", "horse", "cow", "bird", "fish", "boat",
    "train", "car", "bicycle", "bridge", "road", "house", "garden", "kitchen", "cup", "plate", "spoon", "book", "clock", "coat", "hat",
    "shoe", "ball",
)  # fmt: skip
CONCEPT = Concept("church", retain_prompts=tuple(f"a photo of a {noun}" for noun in NOUNS))
INNER = {"sage": (earlier, "inside_out"), "advunlearn": (advunlearn, "attack")}
"""Where each method's search is called by its name."""


def number(seconds: float, extrapolated: bool, source: str) -> dict[str, Any]:
    """A time, and where it is from."""
    return {"seconds": seconds, "how": "extrapolated" if extrapolated else "measured", "from": source}


def ratio(slow: dict[str, Any], fast: dict[str, Any]) -> dict[str, Any]:
    """How many times as long, from two of these."""
    how = "extrapolated" if "extrapolated" in (slow["how"], fast["how"]) else "measured"
    return {
        "value": slow["seconds"] / fast["seconds"],
        "how": how,
        "from": f"{slow['seconds']:.4g} s / {fast['seconds']:.4g} s",
    }


@dataclass
class Timing:
    """A model, how much of each thing is measured, and the GB in use before there was a model."""

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
        self.due = (
            self.config.num_inference_steps + 1
        ) / 2  # guided steps to a state, on average over evenly drawn ones

    def run_for(self, method: str, clock: Clock) -> Run:
        """A run that times its steps."""
        spec = RunSpec(self.model.name, {}, method, {}, (CONCEPT,))
        return Run(device=self.model.device, progress=StepTimes(clock, self.say), spec=spec)

    def trained(self, module: Any, config: Any, states: type[TrajectoryPool]) -> tuple[list[float], Clock]:
        """Runs a method with its states from a pool of this kind: seconds of each step, and of its parts."""
        name, clock = module.CARD.name, Clock(self.model.device)
        self.begin(clock)
        run, (where, inner) = self.run_for(name, clock), INNER[name]
        with states_from(states), patch.object(where, inner, clock.wrapped("search", getattr(where, inner), clock)):
            getattr(module, name)(self.model, [CONCEPT], config, run)
        steps: list[float] = run.progress.steps  # type: ignore[attr-defined]
        return steps, clock

    def begin(self, clock: Clock) -> None:
        """States are sampled on this clock."""
        Resampled.clock, Resampled.limit, Resampled.made = clock, self.guided_steps_measured, 0

    def step_of(self, steps: list[float], clock: Clock, measured: int, what: str) -> dict[str, Any]:
        """One step's seconds with the whole search, and with every state sampled to the end."""
        seconds, rounds = clock.seconds, len(steps)
        inner, search = seconds.get("search: sampling", 0.0), seconds.get("search", 0.0)
        outer = seconds.get("sampling", 0.0) - inner
        more, longer = self.full / measured, self.longer(clock)
        whole = sum(steps) - search - outer + (search - inner) * more + inner * more * longer + outer * longer
        return number(whole / rounds, more != 1 or longer != 1, f"{rounds} {what}, {self.source(measured, clock)}")

    def longer(self, clock: Clock) -> float:
        """How many times as long the sampling is as what was measured of it."""
        done = clock.counts.get("sampling", 0)
        return self.due * Resampled.made / done if done and self.guided_steps_measured else 1.0

    def source(self, measured: int, clock: Clock) -> str:
        """What a number is made of, in words."""
        said = f"{measured} of {self.full} search steps"
        if not clock.counts.get("sampling"):
            return said
        each = f"{clock.counts['sampling'] / Resampled.made:.3g}"
        return f"{said}, {each} of {self.due} guided steps for each of {Resampled.made} states"

    @cached_property
    def sage_pooled(self) -> dict[str, Any]:
        """SAGE as it is: one step of sampling as the pool does it, steps of the warm-up, steps with a search; and the peak of these."""
        held, clock, rows = Peak(self.model.device), Clock(self.model.device), max(1, self.model.batch // 2)
        with torch.no_grad():
            cond = self.model.encode([CONCEPT.name] * rows)
            self.model.predict(self.model.initial_noise([0]), 1, cond[:1])  # the first pass of all is slower
        points = self.model.trajectory(
            cond, steps=self.config.num_inference_steps, guidance=self.config.guidance_scale, seeds=range(rows)
        )
        next(points)
        self.say(f"one guided step of {rows} images")
        with clock.measure("guided"):
            next(points)
        points.close()  # type: ignore[attr-defined]
        steps, times = self.trained(
            sage, sage.Config(batch_size=self.batch, steps=2 * self.rounds, warmup_steps=self.rounds), Filled
        )
        warm, attacked = fmean(steps[: self.rounds]), fmean(steps[self.rounds :])
        said = f"{self.rounds} step{'s' * (self.rounds > 1)}"
        return {
            "peak": held.gigabytes(), "what": held.what,
            "guided": number(clock.seconds["guided"] / rows, False, f"one step of {rows}, two passes each"),
            "warm": number(warm, False, f"{said} of {self.batch} sentences"),
            "attacked": number(attacked, False, f"{said}, {self.source(self.full, times)}, {self.batch} + {self.config.clean_batch_size} sentences"),
        }  # fmt: skip

    @property
    def pooled_prompts(self) -> int:
        """How many prompts SAGE's two pools have: the concept's sentences, the retained prompts and the empty one."""
        return len([t for t in template_library(CONCEPT.kind) if t != PLACEHOLDER]) + len(CONCEPT.retain_prompts) + 1
