"""TRCE: Towards Reliable Malicious Concept Erasure (Chen, Guo, Wang, Zhang, Nie, Liu, ICCV 2025, arXiv 2503.07389).

1. In closed form, keys and values of the attention to the text learn to read the end of text of a prompt about the concept, k_i, as that
   of the same prompt about the anchor, a_i: most of what a prompt asks for is gathered there, whatever words it was put in.

       1/N sum_i |W' k_i - W a_i|^2 + q |W' R - W R|^2 -> min,        W' = W (I + E)

   with R all tokens of captions and q the weight of their mean (``gram`` is where a Gram of captions lies; without one the retain prompts
   and the empty one are taken). There is no lambda: what is not preserved is free, so that a few captions only may leave the system
   singular.
2. Attention to the image, and the queries of the attention to the text, are trained to steer early steps of the concept's runs away
   from it. With e* the original, e_1 the model after the first part, e the student, and c, a, 0 the prompts of concept, anchor and nothing,

       prefer = e*(a) + g (e*(a) - e*(0)),        reject = e*(c) + g (e*(c) - e*(0))
       h(p) = max(0, beta ( |e(z_t, t, p) - prefer|^2 - |e(z_t, t, p) - reject|^2 + margin ))
       L = ( h(c) + h(0) ) / 2 + keep |e(z'_t, t', 0) - e_1(z'_t, t', 0)|^2

   with z_t of the original's runs for c, z'_t of unconditional ones, and | |^2 means over a latent.

Where we differ: every z_t goes with its own timestep, in the released code with the one before, and the place of the end of text is
found by its token, not by counting words. That code never clears its gradients: ``released`` sums them, too. It draws 2000
unconditional runs and uses each hardly once; here there are 64. Where a concept has no anchor, the rest of the sentence or the empty
prompt is the anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept, fill_templates
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning
from efface.ops.closed_form import (
    EmbeddingCache,
    Pairs,
    Preserve,
    Problem,
    build_pairs,
    concept_prompts,
    diagnose,
    edited_weights,
    mean_caption,
    to_edit,
)
from efface.ops.targets import guided
from efface.ops.training.run import Run
from efface.ops.training.running_gradients import RunningGradientSum
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student
from efface.ops.training.trajectory_pool import TrajectoryPool

CARD = MethodCard(
    name="trce",
    title="TRCE",
    paper="Chen, Guo, Wang, Zhang, Nie, Liu: TRCE: Towards Reliable Malicious Concept Erasure in Text-to-Image Diffusion Models, ICCV 2025",
    arxiv="2503.07389",
    families=("sd1",),
    trains="keys and values of the attention to the text in closed form, then its queries and the attention to the image",
    needs_gradient=True,
    needs_images=False,
    vram={},
    minutes={"pocket": 0.2},
    reconstruction=False,
    summary="Redirects the end of text in closed form, then steers early steps away from the concept by a contrastive loss.",
)


@dataclass(frozen=True)
class Config:
    """TRCE's hyper-parameters; the defaults are the paper's for sexual content, 20 words of it."""

    token_positions: str = field(
        default="eos", metadata={"help": "states that are paired: eos (the first end of text), last, tail, all"}
    )
    num_templates: int = field(
        default=15, metadata={"help": "sentences of the template library, beside the words alone", "range": "0 to 66"}
    )
    preserve_weight: float = field(
        default=2e-3, metadata={"help": "q, weight of the mean caption: 2e-3 sexual, 8e-3 unsafe content"}
    )
    ridge: float = field(default=0.0, metadata={"help": "lambda, closeness to the original matrices; as published 0"})
    gram_folder: str = field(
        default="", metadata={"help": "folder with a Gram of captions; by default that of the retain prompts is made"}
    )
    target_modules: str = field(default="self_attn+cross_q", metadata={"help": "what is trained in the second part"})
    steps: int = field(default=300, metadata={"help": "training steps; 0: the first part alone", "range": "0 to 900"})
    learning_rate: float = field(default=1e-6, metadata={"help": "AdamW's learning rate"})
    schedule: str = field(default="constant", metadata={"help": "of the learning rate: constant or cosine"})
    batch_size: int = field(default=1, metadata={"help": "states a step"})
    retain_batch_size: int = field(default=4, metadata={"help": "unconditional states a step"})
    contrast_guidance: float = field(default=15.0, metadata={"help": "g, guidance of what is preferred and rejected"})
    hinge_slope: float = field(default=1.0, metadata={"help": "slope of the hinge"})
    hinge_margin: float = field(default=0.01, metadata={"help": "by how much what is preferred must be nearer"})
    retain_weight: float = field(
        default=100.0, metadata={"help": "weight of the unconditional predictions, which must stay"}
    )
    early_step_fraction: float = field(
        default=0.52, metadata={"help": "share of a run's steps, from its first, that is trained", "range": "0.02 to 1"}
    )
    num_trajectory_prompts: int = field(
        default=0, metadata={"help": "sentences whose runs are trained on, beside a photo of the concept"}
    )
    trajectories_per_prompt: int = field(default=5, metadata={"help": "pooled runs for each prompt"})
    retain_trajectories: int = field(default=64, metadata={"help": "pooled unconditional runs"})
    num_inference_steps: int = field(default=50, metadata={"help": "DDIM steps of a run"})
    guidance_scale: float = field(default=3.0, metadata={"help": "guidance scale of the runs"})
    accumulate_gradients: bool = field(
        default=False, metadata={"help": "whether gradients are summed over all steps, as in the released code"}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"accumulate_gradients": True},
    "pocket": {
        "token_positions": "tail",
        "num_templates": 66,
        "preserve_weight": 0.33,
        "ridge": 0.17,
        "steps": 60,
        "learning_rate": 1e-4,
        "batch_size": 4,
        "contrast_guidance": 3.0,
        "trajectories_per_prompt": 4,
        "retain_trajectories": 16,
        "num_inference_steps": 20,
    },
}


def trce(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Redirect the end of text, then steer early steps; several concepts share the steps evenly."""
    problem = redirection(model, concepts, config)
    solution = problem.solve()
    run.record("solve", diagnose(problem, solution, model.parameter_group("cross_kv").parameters).numbers())
    edit, tensors = to_edit(model, solution, "cross_kv")
    if not config.steps:
        return run.erasure([edit], tensors)
    later, more = train_steering(model, concepts, edited_weights(model, solution), config, run).replace_edit()
    return run.erasure([edit, later], {**tensors, **more})


def redirection(model: EditableModel, concepts: Sequence[Concept], config: Config) -> Problem:
    """The problem of the first part."""
    bank = EmbeddingCache.of(model)
    kept = mean_caption(
        model, bank, (prompt for concept in concepts for prompt in concept.retain_prompts), config.gram_folder
    )
    pairs = Pairs.cat(
        [
            build_pairs(bank, concept_prompts(concept, config.num_templates), config.token_positions)
            for concept in concepts
        ]
    )
    return Problem(pairs.scaled(1 / len(pairs)), Preserve(gram=kept * config.preserve_weight), config.ridge)


def train_steering(
    model: EditableModel, concepts: Sequence[Concept], first: dict[str, Tensor], config: Config, run: Run
) -> Student:
    """The student of the second part; ``first`` are the first part's tensors, as they stand in for the denoiser's."""
    rows = [row for concept in concepts for row in contrast_pairs(concept, config.num_trajectory_prompts)]
    pool, blank = pools(model, [prompt for prompt, _ in rows], config, run)
    with torch.no_grad():
        anchors, nothing = model.encode([anchor for _, anchor in rows]), model.encode([""])
    student = Student(model, config.target_modules)
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.learning_rate)
    summed = RunningGradientSum(student.masters) if config.accumulate_gradients else None
    for step in run.steps(config.steps, student.masters, optimiser, extra={"gradients": summed} if summed else None):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        named = pool.sample(config.batch_size, run.generator("batch"), band=early(pool, config.early_step_fraction))
        free = blank.sample(
            config.retain_batch_size, run.generator("keep"), band=early(blank, config.early_step_fraction)
        )
        empty, held = (nothing[torch.zeros(n, dtype=torch.long)] for n in (config.batch_size, config.retain_batch_size))
        with torch.no_grad():
            e_a = model.predict(named.z, named.t, anchors[named.prompt]).value
            e_1 = model.predict(free.z, free.t, held, params=first).value
        prefer = guided(e_a, named.unconditional, config.contrast_guidance + 1)
        reject = guided(named.conditional, named.unconditional, config.contrast_guidance + 1)
        z, t = torch.cat([named.z, named.z, free.z]), torch.cat([named.t, named.t, free.t])
        cond = Conditioning.cat([named.cond, empty, held])
        now = model.predict(z, t, cond, params={**first, **student.params()}).value.split(
            [config.batch_size, config.batch_size, config.retain_batch_size]
        )
        contrast = torch.stack(
            [hinge(e, prefer, reject, config.hinge_slope, config.hinge_margin) for e in now[:2]]
        ).mean()
        drift = (now[2] - e_1).square().mean()
        step.backward(contrast + config.retain_weight * drift, {"contrast": contrast.detach(), "keep": drift.detach()})
        if summed is not None:
            summed.add()
        step.update()
    return student


def hinge(now: Tensor, prefer: Tensor, reject: Tensor, beta: float, margin: float) -> Tensor:
    """Mean over a batch of max(0, beta (|now - prefer|^2 - |now - reject|^2 + margin)), predictions ``(B, C, H, W)``."""
    nearer = (now - prefer).square().flatten(1).mean(1) - (now - reject).square().flatten(1).mean(1)
    return (beta * (nearer + margin)).clamp(min=0).mean()


def contrast_pairs(concept: Concept, templates: int) -> list[tuple[str, str]]:
    """Prompts about the concept and about its anchor: photos of it by every word, and sentences of the library."""
    photos = [(word, fill_templates(concept.templates[:1], [word])[0]) for word in concept.words]
    anchor = fill_templates(concept.templates[:1], [concept.anchor])[0] if concept.anchor else ""
    rows = {photo: anchor for _, photo in photos}
    return list({**rows, **{p: a for p, a, _ in concept_prompts(concept, templates) if p not in concept.words}}.items())


def early(pool: TrajectoryPool, share: float) -> tuple[int, int]:
    """The timesteps of the first steps of a pool's runs, at least one of them."""
    last = max(1, round(share * pool.steps))
    return int(pool.timesteps[min(last, pool.steps) - 1]), int(pool.timesteps.max()) + 1


def pools(
    model: EditableModel, prompts: Sequence[str], config: Config, run: Run
) -> tuple[TrajectoryPool, TrajectoryPool]:
    """The original's runs for the prompts and, apart, for none."""
    made = []
    for name, some, count in (
        ("pool", prompts, config.trajectories_per_prompt),
        ("blank", ("",), config.retain_trajectories),
    ):
        made.append(
            TrajectoryPool(
                model,
                some,
                runs=count,
                steps=config.num_inference_steps,
                guidance=config.guidance_scale,
                seed=run.seed_for(name),
            )
        )
    return made[0], made[1]
