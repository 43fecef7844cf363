"""Further parts of `full_size.py` for a GPU: complete searches and runs, images, Stable Diffusion XL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from clocks import Clock, Peak, StepTimes
from full_size_elide import ElideBench
from full_size_loading import counted
from full_size_parts import PARTS
from full_size_timing import CONCEPT, number, ratio
from random_models import random_pipeline
from stand_ins import NoisePool, NoPool

import efface.methods.advunlearn as advunlearn
import efface.methods.esd as esd
import efface.methods.sage as sage
from efface.core.spec import RunSpec
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.training.run import Run

ALL_PARTS = (*PARTS, "elide", "published", "runs", "short_run", "closed_forms", "images", "xl", "many_concepts")


class FullBench(ElideBench):
    """The parts of `ElideBench`, and those that measure complete searches and runs."""

    def published(self) -> dict[str, Any]:
        """A published outside-in search with complete sampling of every state, and inside-out on the same prompts."""
        full = replace(self, guided_steps_measured=0, search_steps_measured=0)
        inputs = full.search_inputs()
        tries = [full.inside(*inputs) for _ in range(3)]
        seconds = [row["seconds"] for row in tries]
        found: dict[str, Any] = {"inside_out": {**tries[0], "seconds": median(seconds), "tries": seconds}}
        self.keep(found)
        found["outside_in_as_published"] = full.outside(*inputs, NoPool)
        return {**found, "ratio_as_published": ratio(found["outside_in_as_published"], found["inside_out"])}

    def runs(self) -> dict[str, Any]:
        """Steps of ESD with and without the pool, and of AdvUnlearn without attack; minutes of runs of both."""
        found, guided = dict[str, Any](), self.sage_pooled["guided"]["seconds"]
        for name, states in (("esd", NoisePool), ("esd_without_pool", NoPool)):
            self.say(name.replace("_", " "))
            times = self.trained(esd, esd.Config(steps=5 * self.rounds), states)
            found[name] = self.step_of(*times, self.full, "steps of one state")
        found["esd_ratio_without_pool"] = ratio(found["esd_without_pool"], found["esd"])
        defaults, prompts = esd.Config(), len(CONCEPT.render_prompts())
        pool = defaults.trajectories_per_prompt * prompts * defaults.num_inference_steps * guided
        steps_and_pool = defaults.steps * found["esd"]["seconds"] + pool
        found["esd_whole"] = minutes(steps_and_pool, f"{defaults.steps} steps and the pool")
        self.keep(found)
        return {**found, **self.advunlearn_run(guided, prompts + len(CONCEPT.retain_prompts))}

    def advunlearn_run(self, guided: float, prompts: int) -> dict[str, Any]:
        """A step of AdvUnlearn without attack, and the minutes of a run.

        Args:
            guided: seconds of a guided sampling step.
            prompts: number of prompts in its pools.
        """
        self.say("advunlearn without attack")
        defaults, config = advunlearn.Config(), advunlearn.Config(steps=self.rounds, warmup_steps=self.rounds)
        warm_up = self.step_of(*self.trained(advunlearn, config, NoisePool), self.full, "steps of 1 + 5 prompts")
        steps = defaults.warmup_steps * warm_up["seconds"]
        steps += (defaults.steps - defaults.warmup_steps) * self.advunlearn_pooled["seconds"]
        pools = defaults.trajectories_per_prompt * prompts * defaults.num_inference_steps * guided
        whole = minutes(steps + pools, f"{defaults.steps} steps and the pools")
        return {"advunlearn_warm_up": warm_up, "advunlearn_whole": whole}

    def short_run(self) -> dict[str, Any]:
        """A short run of SAGE with pools, attacks and checkpoint, beside its duration as expected from its parts."""
        config = replace(self.config, steps=20, warmup_steps=4, num_templates=8)
        concept = replace(CONCEPT, retain_prompts=CONCEPT.retain_prompts[:8])
        peak, clock = Peak(self.model.device), Clock(self.model.device)
        times = StepTimes(clock, self.say)
        spec = RunSpec(self.model.name, {}, "sage", {}, (concept,))
        with tempfile.TemporaryDirectory() as folder, clock.measure("whole"):
            run = Run(device=self.model.device, folder=Path(folder), progress=times, spec=spec)
            sage.sage(self.model, [concept], config, run)
        numbers, steps, prompts = self.sage_pooled, sum(times.steps), 8 + len(concept.retain_prompts) + 1
        pools = prompts * config.num_inference_steps * numbers["guided"]["seconds"]
        expected = config.warmup_steps * numbers["warm"]["seconds"]
        expected += (config.steps - config.warmup_steps) * numbers["attacked"]["seconds"]
        what = f"{config.steps} steps, {config.warmup_steps} of them warm-up, pools of {prompts} prompts"
        whole = clock.seconds["whole"]
        rows = {
            "whole": number(whole, False, f"{what}, checkpoint", peak.gigabytes()),
            "steps": number(steps, False, what),
            "rest": number(whole - steps, False, "pools, checkpoint"),
            "expected_steps": number(expected, True, "steps as measured"),
            "expected_pools": number(pools, True, "guided steps as measured"),
            "expected": number(expected + pools, True, what),
        }
        return {**rows, "ratio_to_expected": ratio(rows["whole"], rows["expected"])}

    def images(self) -> dict[str, Any]:
        """Seconds per image of 50 guided DDIM steps, in batches of 1 and of 8; the second of two tries."""
        found = dict[str, Any]()
        for count in (1, 8):
            peak, clock = Peak(self.model.device), Clock(self.model.device)
            for name in ("first", "again"):
                with clock.measure(name):
                    self.model.sample(
                        [CONCEPT.name] * count,
                        seeds=range(count),
                        num_inference_steps=50,
                        guidance_scale=7.5,
                        batch_size=count,
                    )
            seconds = clock.seconds["again"] / count
            found[f"image_in_batch_of_{count}"] = number(seconds, False, f"batch of {count}", peak.gigabytes())
            self.keep(found)
        return found

    def xl(self) -> dict[str, Any]:
        """Steps of ESD and SAGE at Stable Diffusion XL's size."""
        device, dtype, tiny = self.model.device, self.model.unet.dtype, self.model.image_size < 512
        found = dict[str, Any]()
        with self.offloaded():
            model = StableDiffusionModel(random_pipeline(device, dtype, tiny, "sdxl"), "random-xl")
            found["weights_gb"] = counted(sum(p.nbytes for m in model.components.values() for p in m.parameters()))
            bench = type(self)(model, self.batch, 0, self.guided_steps_measured, 1, say=self.say)
            small = sage.Config(batch_size=1, top_k=1, steps=2, warmup_steps=0)
            default = sage.Config(batch_size=self.batch, steps=2, warmup_steps=0)
            runs = {
                "esd": (esd, esd.Config(steps=3), "steps of one state"),
                "sage_1": (sage, small, "steps of 1 + 1 prompts, top 1"),
                "sage": (sage, default, "steps, default batch"),
            }
            for name, (module, config, what) in runs.items():
                self.attempt(found, name, lambda m=module, c=config, w=what: bench.steps_of(m, c, w))  # type: ignore[misc]
        return found

    def steps_of(self, module: Any, config: Any, what: str) -> dict[str, Any]:
        """A step with the pool, without the first step."""
        steps, clock = self.trained(module, config, NoisePool)
        return self.step_of(steps[1:], Clock(clock.device, peak=clock.peak), self.full, what)

    @contextmanager
    def offloaded(self) -> Iterator[None]:
        """Keep the model on the CPU during the body."""
        device = self.model.device
        self.model.pipe.to("cpu")
        try:
            yield
        finally:
            self.model.pipe.to(device)


def minutes(seconds: float, source: str) -> dict[str, Any]:
    """The duration of a run, extrapolated."""
    return {"minutes": seconds / 60, "how": "extrapolated", "from": source}
