"""The parts of `full_size.py`: memory, run, loading, search and step."""

from __future__ import annotations

from typing import Any

import torch
from clocks import Clock, Peak
from full_size_loading import counted, time_loading
from full_size_timing import CONCEPT, Timing, number, ratio
from stand_ins import NoisePool, NoPool, states_from

import efface.attacks.outside_in as unlearn_diff
import efface.methods.advunlearn as advunlearn
import efface.methods.sage as sage
from efface.core.concept import PLACEHOLDER
from efface.ops.adversarial.attack_objective import AttackTarget
from efface.ops.adversarial.embedding_attack import EmbeddingAttack, inside_out
from efface.ops.text.concept_prompts import ConceptPrompts
from efface.ops.text.similarity import Similarity
from efface.ops.text.soft_prompts import embedding_table, single_token_ids
from efface.ops.text.templates import template_library
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig
from efface.ops.training.trajectory_pool import TrajectoryPool

PARTS = ("memory", "run", "load", "search", "step")


class Bench(Timing):
    """One method for each part, which returns its numbers by name."""

    def memory(self) -> dict[str, Any]:
        """Peak memory of SAGE with its defaults: pool, steps of both kinds, one guided sampling step."""
        student = Student(self.model, "text_all")
        trained = sum(master.nbytes for master in student.trainable_params.values())
        del student
        weights = sum(p.nbytes for part in self.model.components.values() for p in part.parameters())
        pool = self.pooled_prompts * self.config.num_inference_steps * 3 * self.model.initial_noise([0]).nbytes
        sage_numbers = self.sage_pooled
        source = f"{sage_numbers['what']}, {2 * self.rounds} steps"
        before = {"value": self.before, "how": "measured", "from": "the same, before the model was built"}
        return {
            "peak_gb": {"value": sage_numbers["peak"], "how": "measured", "from": source},
            "before_the_model_gb": before,
            "weights_gb": counted(weights),
            "trained_with_gradient_and_adam_gb": counted(4 * trained),
            "pool_gb": counted(pool),
        }

    def search(self) -> dict[str, Any]:
        """Inside-out and three forms of outside-in search on the same batch of prompts."""
        templates, trajectories, student = self.search_inputs()
        found = {"inside_out": self.inside(templates, trajectories, student)}
        for name, states in (("outside_in_pooled", NoisePool), ("outside_in_as_published", NoPool)):
            found[name] = self.outside(templates, trajectories, student, states)
            self.keep(found)
        found["outside_in_unlearn_diff"] = self.with_images(templates)
        for form in ("pooled", "as_published", "unlearn_diff"):
            found[f"ratio_{form}"] = ratio(found[f"outside_in_{form}"], found["inside_out"])
        return found

    def search_inputs(self) -> tuple[list[str], TrajectoryConfig, Student]:
        """Inputs of every search: the prompts' templates, how their states are sampled, and the student."""
        templates = [t for t in template_library(CONCEPT.kind) if t != PLACEHOLDER][: self.batch]
        trajectories = TrajectoryConfig(num_inference_steps=self.config.num_inference_steps)
        return templates, trajectories, Student(self.model, "text_all")

    def inside(self, templates: list[str], trajectories: TrajectoryConfig, student: Student) -> dict[str, Any]:
        """SAGE's own search, all steps."""
        self.say("inside-out")
        peak = Peak(self.model.device)
        prompts, clock = self.concept_prompts(templates, trajectories, NoisePool), Clock(self.model.device)
        attack = EmbeddingAttack(self.config.attack_objective, self.config.concept_weight, self.full, 0.3)
        similarity, table = Similarity(self.model), embedding_table(self.model)
        with clock.measure("search"):
            inside_out(
                attack,
                AttackTarget(student.frozen_encoder(), self.model.encode, similarity, table),
                prompts.prompt_tokens,
                prompts.concept_only,
            )
        return number(clock.seconds["search"], False, self.source(self.full, clock), peak.gigabytes())

    def outside(
        self, templates: list[str], trajectories: TrajectoryConfig, student: Student, states: type[TrajectoryPool]
    ) -> dict[str, Any]:
        """AdvUnlearn's search ``min_d || e(z_t, t, E([d, c])) - e(z_t, t, E*(c)) ||^2`` with a new z_t at each step."""
        self.say(f"outside-in, {'from the pool' if states is NoisePool else 'as published'}")
        peak, clock = Peak(self.model.device), Clock(self.model.device)
        config = advunlearn.Config(batch_size=self.batch, attack_steps=self.steps)
        self.begin(clock)
        prompts, pooled = (
            self.concept_prompts(templates, trajectories, states),
            self.concept_prompts(templates, trajectories, NoisePool),
        )
        batch = pooled.pool.sample_each(range(len(templates)), torch.Generator().manual_seed(0))
        with clock.measure("all"):
            attack = clock.wrapped("search", advunlearn._attack, clock)
            attack(student, prompts, batch, config, self.run_for("advunlearn", clock))
        clock.peak = peak.gigabytes()
        return self.step_of([clock.seconds["all"]], clock, self.steps, "search")

    def with_images(self, templates: list[str]) -> dict[str, Any]:
        """UnlearnDiffAtk's search towards target images, without the generation of these images."""
        self.say("outside-in, UnlearnDiffAtk")
        peak = Peak(self.model.device)
        clock, clean = Clock(self.model.device), self.model.initial_noise(list(range(len(templates))))
        tokens = self.model.tokenize([t.format(CONCEPT.name) for t in templates])
        words, config = single_token_ids(self.model), unlearn_diff.Config(num_timesteps=1, steps=self.steps)
        with clock.measure("search"):
            unlearn_diff.search_tokens(self.model, tokens, clean, words, config, torch.Generator().manual_seed(0))
        seconds = clock.seconds["search"] * self.full / self.steps
        return number(seconds, self.steps != self.full, self.source(self.steps, clock), peak.gigabytes())

    def concept_prompts(
        self, templates: list[str], trajectories: TrajectoryConfig, states: type[TrajectoryPool]
    ) -> ConceptPrompts:
        """The concept's prompts with a kind of pool."""
        with states_from(states):
            return ConceptPrompts.from_templates(
                self.model, [CONCEPT.name], templates, trajectories, 0, erased_phrase=CONCEPT.name
            )

    def step(self) -> dict[str, Any]:
        """One step of SAGE and of AdvUnlearn, with the pool and without it."""
        pooled = self.sage_pooled
        found = {"guided_step_a_image": pooled["guided"], "sage_warm_up": pooled["warm"], "sage": pooled["attacked"]}
        self.say("advunlearn")
        found["advunlearn"] = self.advunlearn_pooled
        self.say("advunlearn without pool")
        config = advunlearn.Config(steps=self.rounds, warmup_steps=0, attack_steps=self.steps)
        times = self.trained(advunlearn, config, NoPool)
        found["advunlearn_without_pool"] = self.step_of(*times, self.steps, "steps of 1 + 5 prompts")
        self.keep(found)
        self.say("SAGE without the pool")
        plain = sage.Config(batch_size=self.batch, steps=self.rounds, warmup_steps=0)
        found["sage_without_pool"] = self.step_of(*self.trained(sage, plain, NoPool), self.full, "steps")
        for name in ("sage", "advunlearn"):
            found[f"{name}_ratio_without_pool"] = ratio(found[f"{name}_without_pool"], found[name])
        return found

    def run(self) -> dict[str, Any]:
        """Minutes of a run of SAGE with its defaults, extrapolated from the measured steps."""
        config, sage_numbers = self.config, self.sage_pooled
        attacked_steps = config.steps - config.warmup_steps
        plain, attacked = (sage_numbers[kind]["seconds"] / 60 for kind in ("warm", "attacked"))
        parts = {
            "warm_up": (config.warmup_steps * plain, f"{config.warmup_steps} steps as the {self.rounds} measured"),
            "attacked": (attacked_steps * attacked, f"{attacked_steps} steps as the {self.rounds} measured"),
            "pools": (
                self.pooled_prompts * config.num_inference_steps * sage_numbers["guided"]["seconds"] / 60,
                f"{self.pooled_prompts} prompts, {config.num_inference_steps} guided steps each, as the one measured",
            ),
        }  # fmt: skip
        rows = {
            name: {"minutes": minutes, "how": "extrapolated", "from": source}
            for name, (minutes, source) in parts.items()
        }
        whole = sum(minutes for minutes, _ in parts.values())
        return {
            **rows,
            "whole": {"minutes": whole, "how": "extrapolated", "from": f"{config.steps} steps and the pools"},
        }

    def load(self) -> dict[str, Any]:
        """Seconds of `load_model`, relative to reading the same files' tensors."""
        return time_loading(self.model, self.say)
