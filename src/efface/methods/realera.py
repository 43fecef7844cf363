"""RealEra: Semantic-level Concept Erasure via Neighbor-Concept Mining (Liu, An, Zhang et al., arXiv 2410.09140).

A concept comes back by words that are near to its own. RealEra erases not its states e alone but a neighbourhood of them, and holds what
lies beyond. Neighbours are e + n with a random n such that |n| <= D_1 and cos(e, e + n) is within [S_1, S_2], b what lies beyond.

1. In closed form, for keys and values W of the attention to the text, with the anchor's states a:

       sum_n |W' (e + n) - W a|^2 + rho sum_b |W' b - W b|^2 + lambda |W' - W|_F^2 -> min

2. A LoRA of the denoiser aligns predictions, with e* the original and z_t of its runs for the concept:

       L = | e(z_t, t, e + n) - e*(z_t, t, a) |^2 + beta | e(z_t, t, b) - e*(z_t, t, b) |^2

There is no code, and what we could read of the paper leaves open where b is drawn, the constants, the tokens that are moved, what the
LoRA sits on and how it is trained. Ours are: exact sampling (`efface.ops.text.embedding_sampling`) with the length of e kept, b at lower cosines
than the neighbours, tokens from the concept's last one on (those before it know nothing of it), every number below, and the LoRA on all
attention. The neighbours of a token share its weight of 1, and so do the b. ``preserve`` and ``anisotropic`` are ours, too: averaged over
isotropic n, the neighbourhood is one more ridge, which pulls all directions towards nothing, and b is what stops that. With
``anisotropic`` n lies in the span of the nearest retained states, where other words are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from efface.core.concept import Concept
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
    diagnose,
    edited_weights,
    mean_caption,
    prompts_naming,
    to_edit,
)
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.embedding_sampling import local_basis, sample_around
from efface.ops.training.lora import LoraAdapter
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.trajectory_pool import TrajectoryPool

CARD = MethodCard(
    name="realera",
    title="RealEra",
    paper="Liu, An, Zhang, Li, Wu, Gu, Lin, Wang: RealEra: Semantic-level Concept Erasure via Neighbor-Concept Mining, 2024",
    arxiv="2410.09140",
    families=("sd1",),
    trains="keys and values of the attention to the text in closed form, then a LoRA of the denoiser",
    needs_gradient=True,
    needs_images=False,
    vram={},
    minutes={"pocket": 0.4},
    reconstruction=True,
    summary="Erases a neighbourhood of the concept's states in closed form and by a LoRA, and holds what lies beyond.",
)


@dataclass(frozen=True)
class Config:
    """RealEra's hyper-parameters; the numbers are ours (see the module's text)."""

    token_positions: str = field(default="tail", metadata={"help": "states that are moved: last, tail, eos, all"})
    num_templates: int = field(
        default=0, metadata={"help": "sentences of the template library, beside the words alone", "range": "0 to 66"}
    )
    num_neighbours: int = field(default=16, metadata={"help": "neighbours of each state, beside itself"})
    neighbour_min_cosine: float = field(
        default=0.8, metadata={"help": "S_1, least cosine of a neighbour", "range": "0.5 to 1"}
    )
    neighbour_max_cosine: float = field(default=1.0, metadata={"help": "S_2, largest cosine of a neighbour"})
    neighbour_max_distance: float = field(
        default=0.6, metadata={"help": "D_1, largest distance of a neighbour, in lengths of the state; 0: no bound"}
    )
    num_beyond: int = field(default=16, metadata={"help": "states drawn beyond each state"})
    beyond_min_cosine: float = field(default=0.0, metadata={"help": "least cosine of what lies beyond"})
    beyond_max_cosine: float = field(default=0.5, metadata={"help": "largest cosine of what lies beyond"})
    beyond_weight: float = field(default=1.0, metadata={"help": "weight of what lies beyond, in the closed form"})
    preserve_weight: float = field(
        default=0.0, metadata={"help": "weight of the mean retain prompt, in the closed form"}
    )
    ridge: float = field(default=0.5, metadata={"help": "lambda, closeness to the original matrices"})
    anisotropic: bool = field(
        default=False, metadata={"help": "neighbours in the span of the nearest retained states only"}
    )
    num_nearest: int = field(default=32, metadata={"help": "how many of them"})
    target_modules: str = field(default="attn_all", metadata={"help": "matrices that the LoRA sits on"})
    rank: int = field(default=4, metadata={"help": "rank of the LoRA"})
    steps: int = field(default=200, metadata={"help": "training steps of the LoRA; 0: the closed form alone"})
    learning_rate: float = field(default=1e-4, metadata={"help": "AdamW's learning rate"})
    schedule: str = field(default="constant", metadata={"help": "of the learning rate: constant or cosine"})
    batch_size: int = field(default=4, metadata={"help": "states a step"})
    beyond_loss_weight: float = field(default=1.0, metadata={"help": "weight of what lies beyond, in the LoRA's loss"})
    trajectories_per_prompt: int = field(default=4, metadata={"help": "pooled runs for each prompt"})
    num_inference_steps: int = field(default=50, metadata={"help": "DDIM steps of a run"})
    guidance_scale: float = field(default=3.0, metadata={"help": "guidance scale of the runs"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "num_templates": 66,
        "neighbour_min_cosine": 0.95,
        "neighbour_max_distance": 0.3,
        "beyond_weight": 0.1,
        "preserve_weight": 100.0,
        "ridge": 20.0,
        "steps": 100,
        "learning_rate": 3e-5,
        "trajectories_per_prompt": 1,
        "num_inference_steps": 20,
    },
}


def realera(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erase the neighbourhoods in closed form, then align the predictions; several concepts share the steps evenly."""
    bank = EmbeddingCache.of(model)
    rows = [row for concept in concepts for row in prompts_naming(concept, config.num_templates)]
    retain = [prompt for concept in concepts for prompt in concept.retain_prompts]
    pairs = build_pairs(bank, rows, config.token_positions)
    basis = directions(bank, retain, pairs, config)
    problem = sample_neighbourhood(pairs, basis, config, run.generator("neighbours"))
    if config.preserve_weight:
        problem = replace(
            problem, preserve=replace(problem.preserve, gram=config.preserve_weight * mean_caption(model, bank, retain))
        )
    solution = problem.solve()
    run.record("solve", diagnose(problem, solution, model.parameter_group("cross_kv").parameters).numbers())
    edit, tensors = to_edit(model, solution, "cross_kv")
    if not config.steps:
        return run.erasure([edit], tensors)
    adapter = LoraAdapter(
        model, config.target_modules, config.rank, run.generator("adapter"), edited_weights(model, solution)
    )
    align_to_anchor(model, adapter, rows, basis, config, run)
    later, more = adapter.edit()
    return run.erasure([edit, later], {**tensors, **more})


def directions(bank: EmbeddingCache, retain: Sequence[str], pairs: Pairs, config: Config) -> Tensor | None:
    """Where the neighbours lie: None for everywhere, else the basis of the span of the nearest retained states, BOS left out."""
    if not config.anisotropic:
        return None
    return local_basis(torch.cat([bank.states(text)[1:] for text in ("", *retain)]).T, pairs.source, config.num_nearest)


def sample_neighbourhood(pairs: Pairs, basis: Tensor | None, config: Config, generator: torch.Generator) -> Problem:
    """The closed form's problem: each pair with its neighbours, and what lies beyond."""
    n = config.num_neighbours
    near = sample_around(
        pairs.source,
        n,
        (config.neighbour_min_cosine, config.neighbour_max_cosine),
        generator,
        distance=config.neighbour_max_distance,
        basis=basis,
    )
    source, anchor = (
        torch.cat([pairs.source, near], 1),
        torch.cat([pairs.anchor, pairs.anchor.repeat_interleave(n, 1)], 1),
    )
    texts = (*pairs.texts, *(text for text in pairs.texts for _ in range(n)))
    every = Pairs(source, anchor, torch.full((source.shape[1],), 1 / (n + 1), dtype=torch.float64), texts)
    beyond = sample_around(
        pairs.source, config.num_beyond, (config.beyond_min_cosine, config.beyond_max_cosine), generator
    )
    if not config.beyond_weight or not config.num_beyond:
        return Problem(every, ridge=config.ridge)
    held = Preserve(
        beyond, torch.full((beyond.shape[1],), config.beyond_weight / config.num_beyond, dtype=torch.float64)
    )
    return Problem(every, held, config.ridge)


def align_to_anchor(
    model: EditableModel, adapter: LoraAdapter, rows: Sequence[tuple[str, str, str]], basis: Tensor | None, config: Config, run: Run
) -> None:  # fmt: skip
    """Trains the LoRA."""
    prompts = [prompt for prompt, _, _ in rows]
    pool = TrajectoryPool(
        model,
        prompts,
        runs=config.trajectories_per_prompt,
        steps=config.num_inference_steps,
        guidance=config.guidance_scale,
        seed=run.seed_for("pool"),
    )
    frames = locate_concept(model, prompts, [word for _, _, word in rows])
    last = frames.concept_positions.masked_fill(frames.concept_positions >= frames.tokens.eos[:, None], 0).amax(1)
    moved = torch.arange(frames.context_mask.shape[1], device=model.device) >= last[:, None]
    with torch.no_grad():
        anchors = model.encode([anchor for _, anchor, _ in rows])
    generator, optimiser = (
        run.generator("noise"),
        torch.optim.AdamW(list(adapter.trainable_params.values()), lr=config.learning_rate),
    )
    for step in run.steps(config.steps, adapter.trainable_params, optimiser):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        batch = pool.sample(config.batch_size, run.generator("batch"))
        where = moved[batch.prompt]
        near = perturb_conditioning(
            batch.cond,
            where,
            (config.neighbour_min_cosine, config.neighbour_max_cosine),
            generator,
            config.neighbour_max_distance,
            basis,
        )
        beyond = perturb_conditioning(
            batch.cond, where, (config.beyond_min_cosine, config.beyond_max_cosine), generator
        )
        z, t = torch.cat([batch.z, batch.z]), torch.cat([batch.t, batch.t])
        with torch.no_grad():
            target = model.predict(z, t, Conditioning.cat([anchors[batch.prompt], beyond])).value
        apart = (adapter.predict(z, t, Conditioning.cat([near, beyond])).value - target).square()
        erase, hold = apart[: config.batch_size].mean(), apart[config.batch_size :].mean()
        step.optimize(erase + config.beyond_loss_weight * hold, {"erase": erase.detach(), "beyond": hold.detach()})


def perturb_conditioning(
    cond: Conditioning, where: Tensor, cosines: tuple[float, float], generator: torch.Generator, distance: float = 0.0,
    basis: Tensor | None = None,
) -> Conditioning:  # fmt: skip
    """A conditioning with another state around each of those that are marked, bool ``(B, L)``."""
    states = cond.states.detach().clone()
    states[where] = sample_around(
        states[where].double().cpu().T, 1, cosines, generator, distance=distance, basis=basis
    ).T.to(states)
    return Conditioning(states, cond.pooled)
