"""ESD: erased Stable Diffusion (Gandikota et al., "Erasing Concepts from Diffusion Models", ICCV 2023, arXiv 2303.07345).

The student learns to predict, for the concept's prompt, what the original predicts when guided *away* from it:

    L = || e(z_t, t, c) - [ e*(z_t, t, "") - eta ( e*(z_t, t, c) - e*(z_t, t, "") ) ] ||^2

with e* the frozen original, e the student, z_t a state of a guided run for c. ``cross_all`` is the paper's esd-x (attention to the
text, for what a word names), ``non_cross`` its esd-u (everything else, for what is drawn whatever the prompt), ``cross_kv`` esd-x-strict.
The same loss trains the text encoder with ``text_all``. With ``erase_from``, the authors' later option, the concept c is taken out of a
longer prompt f, whose rest stays:

    L = || e(z_t, t, f) - [ e*(z_t, t, f) - (eta + 1) ( e*(z_t, t, c) - e*(z_t, t, "") ) ] ||^2

the same as above where f is c. ``templates`` says in how many sentences; on a small model, what is erased in one is not in others.

The paper has no term for what must stay. ``retain`` > 0 adds the one of later work (AdvUnlearn, arXiv 2405.15234) over the concepts'
retain prompts r, || e(z'_t, t, r) - e*(z'_t, t, r) ||^2: a small model forgets more beside the concept than a large one.

Where we differ: states come from the original's runs, pooled, instead of from the student's anew at every step. The authors' later code
samples with the original too; then every state of a run is an exact training tuple whose targets guidance has computed already, and the
cost of sampling is shared by all steps. ``resample`` > 0 takes the student's runs instead, refreshed every so many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.retention.relation_graph import RetainSet
from efface.ops.targets import neg_guidance
from efface.ops.text.concept_prompts import TrajectoryConfig
from efface.ops.text.templates import concept_templates, template_library
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student
from efface.ops.training.trajectory_pool import TrajectoryPool

CARD = MethodCard(
    name="esd",
    title="ESD",
    paper="Gandikota, Materzynska, Fiotto-Kaufman, Bau: Erasing Concepts from Diffusion Models, ICCV 2023",
    arxiv="2303.07345",
    families=("sd1", "sd2", "sdxl"),
    trains="attention to the text, everything else in the UNet, or the text encoder",
    needs_gradient=True,
    needs_images=False,
    vram={},
    minutes={"pocket": 1.1},
    reconstruction=False,
    summary="Fine-tunes the model towards its own prediction guided away from the concept.",
)


@dataclass(frozen=True)
class Config:
    """ESD's hyper-parameters; the defaults are the paper's."""

    target_modules: str = field(
        default="cross_all", metadata={"help": "what is trained: cross_all, cross_kv, non_cross, unet_linear, text_all"}
    )
    steps: int = field(default=1000, metadata={"help": "training steps", "range": "200 to 1000"})
    learning_rate: float = field(default=1e-5, metadata={"help": "Adam's learning rate", "range": "1e-6 to 1e-3"})
    negative_guidance: float = field(
        default=1.0, metadata={"help": "strength of the negative guidance", "range": "0.5 to 3"}
    )
    batch_size: int = field(default=1, metadata={"help": "states a step"})
    guidance_scale: float = field(default=3.0, metadata={"help": "guidance scale of the runs that give the states"})
    num_inference_steps: int = field(default=50, metadata={"help": "DDIM steps of a run"})
    trajectories_per_prompt: int = field(default=8, metadata={"help": "pooled runs for each prompt"})
    erase_from: bool = field(
        default=False, metadata={"help": "keep the rest of the prompt: base e(f), direction of the name c alone"}
    )
    num_templates: int = field(
        default=0,
        metadata={
            "help": "sentences of the template library to erase the concept in; 0: only its own prompts",
            "range": "0 to 66",
        },
    )
    retain_weight: float = field(
        default=0.0,
        metadata={"help": "weight of the retain prompts' predictions, which must stay; 0: none, as published"},
    )
    schedule: str = field(default="constant", metadata={"help": "of the learning rate: constant or cosine"})
    refresh_every: int = field(
        default=0, metadata={"help": "every so many steps one run is drawn anew by the student; 0: frozen original"}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"learning_rate": 5e-5, "steps": 200},
    "pocket": {
        "target_modules": "attn_all",
        "learning_rate": 4e-4,
        "schedule": "cosine",
        "steps": 500,
        "batch_size": 8,
        "num_inference_steps": 20,
        "trajectories_per_prompt": 1,
        "negative_guidance": 3.0,
        "erase_from": True,
        "num_templates": 66,
        "retain_weight": 20.0,
    },
}


def esd(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erase ``concepts`` by negative guidance; several share the steps evenly."""
    prompts, names = erase_prompts(concepts, config.num_templates)
    pool = TrajectoryPool(
        model,
        prompts,
        runs=config.trajectories_per_prompt,
        steps=config.num_inference_steps,
        guidance=config.guidance_scale,
        seed=run.seed_for("pool"),
    )
    with torch.no_grad():
        named = model.encode(names)
    student = Student(model, config.target_modules)
    retained = (
        RetainSet.of(
            model,
            concepts,
            TrajectoryConfig(1, config.num_inference_steps, config.guidance_scale),
            empty=False,
            seed=run.seed_for("retained"),
        )
        if config.retain_weight
        else None
    )
    optimiser = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    for step in run.steps(
        config.steps, student.masters, optimiser, extra={"pool": pool} if config.refresh_every else None
    ):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        if config.refresh_every and step.index and step.index % config.refresh_every == 0:
            pool.refresh(1, params=None if student.trains_text else student.params())
        batch = pool.sample(config.batch_size, run.generator("batch"))
        e_f, e_0 = batch.conditional, batch.unconditional
        if config.erase_from:
            with torch.no_grad():
                target = neg_guidance(
                    e_f, model.predict(batch.z, batch.t, named[batch.prompt]).value, e_0, config.negative_guidance + 1
                )
        else:
            target = neg_guidance(e_0, e_f, e_0, config.negative_guidance)
        cond = student.encode(prompts)[batch.prompt] if student.trains_text else batch.cond
        loss = (student.predict(batch.z, batch.t, cond).value - target).square().mean()
        parts = {"erase": loss.detach()}
        if retained is not None:
            now = student.encode(retained.tokens) if student.trains_text else retained.original
            some = torch.randint(len(now.states), (config.batch_size,), generator=run.generator("retain"))
            kept = retained.prediction_loss(student, now, some, run.generator("retain"))
            loss, parts = loss + config.retain_weight * kept, {**parts, "retain": kept.detach()}
        step.optimize(loss, parts)
    edits, tensors = student.replace_edits()
    return run.erasure(edits, tensors)


def erase_prompts(concepts: Sequence[Concept], templates: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The prompts f to erase in, and beside each the concept c alone, as it is written there."""
    rows: dict[str, str] = {}
    for concept in concepts:
        for prompt in concept.prompts or concept.render_prompts(concept.words):
            rows[prompt] = concept.name
        if templates:
            for word in concept.words:
                rows |= dict.fromkeys(
                    concept_templates(
                        replace(concept, name=word, synonyms=(), retain_prompts=()),
                        template_library(concept.kind),
                        templates,
                    ),
                    word,
                )
    return tuple(rows), tuple(rows.values())
