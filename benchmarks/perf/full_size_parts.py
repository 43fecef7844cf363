"""The parts of `full_size.py`: what is measured at a model's true size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from full_size_timing import CONCEPT, Timing, number, ratio
from safetensors.torch import load_file
from stand_ins import Clock, Filled, Resampled, states_from
from torch import Tensor

import efface.attacks.outside_in as unlearn_diff
import efface.methods.advunlearn as advunlearn
import efface.methods.sage as sage
from efface.core.concept import PLACEHOLDER
from efface.models.loading import load_model
from efface.ops.adversarial.embedding_attack import EmbeddingAttack, inside_out
from efface.ops.text.concept_prompts import ConceptPrompts, TrajectoryConfig
from efface.ops.text.similarity import Similarity
from efface.ops.text.soft_prompts import embedding_table, single_token_words
from efface.ops.text.templates import template_library
from efface.ops.training.student import Student
from efface.ops.training.trajectory_pool import TrajectoryPool

PARTS = ("memory", "run", "load", "search", "step")


class Bench(Timing):
    """One method a part, each returning its numbers by name."""

    def memory(self) -> dict[str, Any]:
        """Peak memory of SAGE with its defaults: pool, steps of both kinds, one guided sampling step."""
        student = Student(self.model, "text_all")
        trained = sum(master.nbytes for master in student.masters.values())
        del student
        weights = sum(p.nbytes for part in self.model.components.values() for p in part.parameters())
        pool = self.pooled_prompts * self.config.num_inference_steps * 3 * self.model.initial_noise([0]).nbytes
        found = self.sage_pooled
        return {
            "peak_gb": {"value": found["peak"], "how": "measured", "from": f"{found['what']}, {2 * self.rounds} steps"},
            "before_the_model_gb": {"value": self.before, "how": "measured", "from": "the same, before the model was built"},
            "weights_gb": counted(weights), "trained_with_gradient_and_adam_gb": counted(4 * trained), "pool_gb": counted(pool),
        }  # fmt: skip

    def search(self) -> dict[str, Any]:
        """The same batch of sentences, searched inside-out, and outside-in in three forms."""
        templates = [t for t in template_library(CONCEPT.kind) if t != PLACEHOLDER][: self.batch]
        runs, student = (
            TrajectoryConfig(1, self.config.num_inference_steps, self.config.guidance_scale),
            Student(self.model, self.config.target_modules),
        )
        found = {"inside_out": self.inside(templates, runs, student)}
        for name, states in (("outside_in_pooled", Filled), ("outside_in_as_published", Resampled)):
            found[name] = self.outside(templates, runs, student, states)
            self.keep(found)
        found["outside_in_unlearn_diff"] = self.with_images(templates)
        for form in ("pooled", "as_published", "unlearn_diff"):
            found[f"ratio_{form}"] = ratio(found[f"outside_in_{form}"], found["inside_out"])
        return found

    def inside(self, templates: list[str], runs: TrajectoryConfig, student: Student) -> dict[str, Any]:
        """SAGE's own search, whole."""
        self.say("inside-out")
        about, clock = self.about(templates, runs, Filled), Clock(self.model.device)
        how = EmbeddingAttack(
            self.config.attack_objective,
            self.config.concept_weight,
            self.full,
            self.config.attack_learning_rate,
            self.config.attack_tokens,
        )
        similarity, table = Similarity(self.model, self.config.attack_similarity), embedding_table(self.model)
        with clock.measure("search"):
            inside_out(
                how,
                about.frames,
                about.alone,
                erased=student.frozen_encoder(),
                original=self.model.encode,
                table=table,
                similarity=similarity,
            )
        return number(clock.seconds["search"], False, self.source(self.full, clock))

    def outside(
        self, templates: list[str], runs: TrajectoryConfig, student: Student, states: type[TrajectoryPool]
    ) -> dict[str, Any]:
        """AdvUnlearn's search, ``min_d || e(z_t, t, E([d, c])) - e(z_t, t, E*(c)) ||^2``, a new z_t each step."""
        self.say(f"outside-in, {'from the pool' if states is Filled else 'as published'}")
        clock, config = Clock(self.model.device), advunlearn.Config(batch_size=self.batch, attack_steps=self.steps)
        self.begin(clock)
        about, first = self.about(templates, runs, states), self.about(templates, runs, Filled)
        drawn = first.pool.sample_each(range(len(templates)), torch.Generator().manual_seed(0))
        with clock.measure("all"):
            attack = clock.wrapped("search", advunlearn.search_prefix, clock)
            attack(
                self.model,
                student,
                about,
                drawn,
                config,
                self.run_for("advunlearn", clock),
                embedding_table(self.model).shape[1],
            )
        return self.step_of([clock.seconds["all"]], clock, self.steps, "search")

    def with_images(self, templates: list[str]) -> dict[str, Any]:
        """UnlearnDiffAtk's search towards images drawn before, whose drawing is left out."""
        self.say("outside-in, UnlearnDiffAtk")
        clock, clean = Clock(self.model.device), self.model.initial_noise(list(range(len(templates))))
        tokens = self.model.tokenize([t.format(CONCEPT.name) for t in templates])
        words, config = single_token_words(self.model), unlearn_diff.Config(num_timesteps=1, steps=self.steps)
        with clock.measure("search"):
            unlearn_diff.search_tokens(self.model, tokens, clean, words, config, torch.Generator().manual_seed(0))
        return number(
            clock.seconds["search"] * self.full / self.steps, self.steps != self.full, self.source(self.steps, clock)
        )

    def about(self, templates: list[str], runs: TrajectoryConfig, states: type[TrajectoryPool]) -> ConceptPrompts:
        """The sentences, with their states."""
        with states_from(states):
            return ConceptPrompts.of(self.model, [CONCEPT.name], templates, runs, 0, named=CONCEPT.name)

    def step(self) -> dict[str, Any]:
        """One step of SAGE and of AdvUnlearn, with states from the pool and with each sampled when it is needed."""
        pooled = self.sage_pooled
        found = {"guided_step_a_image": pooled["guided"], "sage_warm_up": pooled["warm"], "sage": pooled["attacked"]}
        for name, states in (("advunlearn", Filled), ("advunlearn_without_pool", Resampled)):
            self.say(name.replace("_", " "))
            config = advunlearn.Config(steps=self.rounds, warmup_steps=0, attack_steps=self.steps)
            found[name] = self.step_of(*self.trained(advunlearn, config, states), self.steps, "steps of 1 + 5 prompts")
            self.keep(found)
        self.say("SAGE without the pool")
        plain = sage.Config(batch_size=self.batch, steps=self.rounds, warmup_steps=0)
        found["sage_without_pool"] = self.step_of(*self.trained(sage, plain, Resampled), self.full, "steps")
        for name in ("sage", "advunlearn"):
            found[f"{name}_ratio_without_pool"] = ratio(found[f"{name}_without_pool"], found[name])
        return found

    def run(self) -> dict[str, Any]:
        """Minutes of a whole run of SAGE with its defaults, from the steps that were measured."""
        config, found = self.config, self.sage_pooled
        plain, attacked = (found[kind]["seconds"] / 60 for kind in ("warm", "attacked"))
        parts = {
            "warm_up": (config.warmup_steps * plain, f"{config.warmup_steps} steps as the {self.rounds} measured"),
            "attacked": ((config.steps - config.warmup_steps) * attacked, f"{config.steps - config.warmup_steps} steps as the {self.rounds} measured"),
            "pools": (
                self.pooled_prompts * config.num_inference_steps * found["guided"]["seconds"] / 60,
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

    def load(self, tries: int = 3) -> dict[str, Any]:
        """`load_model` of the model's folder against reading the same files' tensors; all is copied once, so that no map stays unread."""
        clock, device, best = (
            Clock(self.model.device),
            self.model.device,
            {"plain": float("inf"), "load_model": float("inf")},
        )
        with tempfile.TemporaryDirectory() as folder:
            self.say("writing the model")
            self.model.pipe.save_pretrained(folder)
            files = sorted(Path(folder).rglob("*.safetensors"))
            size = sum(file.stat().st_size for file in files) / 1e9
            for index in range(tries):
                self.say(f"loading, {index + 1} of {tries}")
                for name in best:
                    began = clock.now()
                    if name == "plain":
                        touch(tensor for file in files for tensor in load_file(file, device=str(device)).values())
                    else:
                        model = load_model(folder, device=device, dtype=self.model.unet.dtype)
                        touch(p for part in model.components.values() for p in part.parameters())
                        del model
                    best[name] = min(best[name], clock.now() - began)
        found: dict[str, Any] = {
            name: number(seconds, False, f"the fastest of {tries}, files in the cache")
            for name, seconds in best.items()
        }
        speed = {
            "value": size / best["load_model"],
            "how": "measured",
            "from": f"{size:.3g} GB in {best['load_model']:.3g} s",
        }
        return {
            **found,
            "files_gb": counted(size * 1e9),
            "gb_a_second": speed,
            "ratio_to_plain": ratio(found["load_model"], found["plain"]),
        }


def counted(size: float) -> dict[str, Any]:
    """Bytes that are known without a measurement, in GB."""
    return {"value": size / 1e9, "how": "counted", "from": "bytes of the tensors or files"}


def touch(tensors: Iterable[Tensor]) -> None:
    """Reads every value, so that nothing is left on disk by a memory map."""
    for tensor in tensors:
        tensor.detach().clone()
