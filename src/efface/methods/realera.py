"""RealEra: Semantic-level Concept Erasure via Neighbor-Concept Mining (Liu et al., arXiv 2410.09140); a reconstruction.

Words near an erased concept can still produce it. RealEra therefore erases a neighbourhood of the concept's states e
and preserves the states beyond it. A neighbour is e + n with random n, |n| <= D_1 and a cosine with e in [S_1, S_2]; b
are states beyond. Two stages:

1. In closed form, for cross-attention keys and values W and the anchor's states a:

       sum_n |W' (e + n) - W a|^2 + rho sum_b |W' b - W b|^2 + lambda |W' - W|_F^2 -> min

2. A LoRA of the denoiser aligns predictions, for the original e* and z_t from its trajectories for the concept:

       L = | e(z_t, t, e + n) - e*(z_t, t, a) |^2 + beta | e(z_t, t, b) - e*(z_t, t, b) |^2

with rho = ``beyond_weight``, lambda = ``ridge`` and beta = ``beyond_loss_weight``.

There is no public code, and the paper leaves open the range of b, the constants, the edited tokens, and the LoRA's
layers and training. Our choices: neighbours have e's norm; b has lower cosines than they; the edited tokens start at
the concept's last one, since earlier ones do not depend on it; the LoRA covers all attention. The neighbours of a token
share its weight of 1, and so do the b. Averaged over isotropic n, the neighbourhood acts as one more ridge, which
shrinks all directions unless b preserves them. Against this we add ``preserve_weight`` (the mean retain prompt) and
``anisotropic`` (n in the span of the nearest retained states).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.float32_weights import float32_group
from efface.models.protocol import Conditioning
from efface.ops.closed_form import (
    EmbeddingCache,
    Pairs,
    Preserve,
    Problem,
    build_pairs,
    edited_weights,
    mean_caption_gram,
    prompts_naming,
    solve_and_record,
    to_edit,
)
from efface.ops.closed_form.neighbours import with_neighbours
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.embedding_sampling import local_basis
from efface.ops.text.neighbourhood import Neighbourhood
from efface.ops.training.lora import LoraAdapter
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.trajectory_config import TrajectoryConfig

CARD = MethodCard(
    name="realera",
    title="RealEra",
    paper="Liu, An, Zhang, Li, Wu, Gu, Lin, Wang: RealEra: Semantic-level Concept Erasure via Neighbor-Concept Mining, "
    "2024",
    arxiv="2410.09140",
    families=("sd1",),
    trains="cross-attention keys and values in closed form, then a LoRA of the denoiser",
    needs_gradient=True,
    needs_images=False,
    reconstruction=True,
    summary="Erases a neighbourhood of the concept's states in closed form and by a LoRA, and preserves states beyond.",
)


@dataclass(frozen=True)
class Config:
    """RealEra's hyper-parameters; the numbers are ours (see the module's text)."""

    token_positions: str = field(
        default="tail", metadata={"help": "Token states to redirect.", "range": "last, tail, eos, all, after_bos"}
    )
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    num_neighbours: int = field(default=16, metadata={"help": "Number of neighbours per state."})
    neighbour_min_cosine: float = field(default=0.8, metadata={"help": "Smallest cosine S_1.", "range": "0.5 to 1"})
    neighbour_max_cosine: float = field(default=1.0, metadata={"help": "Largest cosine S_2.", "range": "0.5 to 1"})
    neighbour_max_distance: float = field(
        default=0.6, metadata={"help": "Largest distance D_1, relative to the state's norm; 0 for no bound."}
    )
    num_beyond: int = field(default=16, metadata={"help": "Number of states beyond the neighbourhood per state."})
    beyond_min_cosine: float = field(default=0.0, metadata={"help": "Smallest cosine of a state beyond."})
    beyond_max_cosine: float = field(default=0.5, metadata={"help": "Largest cosine of a state beyond."})
    beyond_weight: float = field(default=1.0, metadata={"help": "Weight rho of the states beyond in closed form."})
    preserve_weight: float = field(default=0.0, metadata={"help": "Weight of the mean retain prompt in closed form."})
    ridge: float = field(default=0.5, metadata={"help": "Weight lambda of the weights' change."})
    anisotropic: bool = field(default=False, metadata={"help": "Restrict n to the span of nearest retained states."})
    num_nearest: int = field(default=32, metadata={"help": "Number of these retained states."})
    target_modules: str = field(default="attn_all", metadata={"help": "Parameter group to change."})
    rank: int = field(default=4, metadata={"help": "Rank of the LoRA."})
    steps: int = field(default=200, metadata={"help": "Number of training steps.", "range": "0 (stage 1) to 200"})
    learning_rate: float = field(default=1e-4, metadata={"help": "Learning rate of the optimiser."})
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=4, metadata={"help": "Number of training samples per step."})
    beyond_loss_weight: float = field(default=1.0, metadata={"help": "Weight beta of the states beyond in the loss."})
    trajectories_per_prompt: int = field(default=4, metadata={"help": "Number of pooled trajectories per prompt."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    guidance_scale: float = field(default=3.0, metadata={"help": "Classifier-free guidance scale of the sampler."})


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
    """Erases the neighbourhoods in closed form, then trains the LoRA; several concepts share the steps evenly."""
    cache = EmbeddingCache.for_model(model)
    prompt_pairs = [pair for concept in concepts for pair in prompts_naming(concept, config.num_templates)]
    retain_prompts = [prompt for concept in concepts for prompt in concept.retain_prompts]
    pairs = build_pairs(cache, prompt_pairs, config.token_positions)
    basis = None
    if config.anisotropic:
        retained = torch.cat([cache.states(prompt)[1:] for prompt in ("", *retain_prompts)])  # without BOS
        basis = local_basis(retained.T, pairs.source, config.num_nearest)
    near = Neighbourhood(config.neighbour_min_cosine, config.neighbour_max_cosine, config.neighbour_max_distance, basis)
    beyond = Neighbourhood(config.beyond_min_cosine, config.beyond_max_cosine)
    gram = mean_caption_gram(model, cache, retain_prompts) if config.preserve_weight else None
    problem = _closed_form(pairs, near, beyond, gram, config, run.generator("neighbours"))
    update = solve_and_record(problem, float32_group(model, "cross_kv").parameters, run)
    edit, tensors = to_edit(model, update, "cross_kv")
    if not config.steps:
        return run.erasure([edit], tensors)
    weights = edited_weights(model, update)
    adapter = LoraAdapter(model, config.target_modules, config.rank, run.generator("adapter"), weights)
    _train_lora(adapter, prompt_pairs, (near, beyond), config, run)
    lora_edit, lora_tensors = adapter.to_edit()
    return run.erasure([edit, lora_edit], {**tensors, **lora_tensors})


def _closed_form(
    pairs: Pairs, near: Neighbourhood, beyond: Neighbourhood, gram: Tensor | None, config: Config, generator: Generator
) -> Problem:
    """Builds the problem of the first stage; ``gram`` is of the mean retain prompt."""
    neighbours = near.sample(pairs.source, config.num_neighbours, generator)
    preserve = Preserve()
    if config.beyond_weight and config.num_beyond:
        states = beyond.sample(pairs.source, config.num_beyond, generator)
        weights = torch.full((states.shape[1],), config.beyond_weight / config.num_beyond, dtype=torch.float64)
        preserve = Preserve(states, weights)
    if gram is not None:
        preserve = preserve.with_gram(gram, config.preserve_weight)
    return Problem(with_neighbours(pairs, neighbours), preserve, config.ridge)


def _train_lora(
    adapter: LoraAdapter,
    prompt_pairs: Sequence[tuple[str, str, str]],
    neighbourhoods: tuple[Neighbourhood, Neighbourhood],
    config: Config,
    run: Run,
) -> None:
    """Trains the LoRA on predictions for states in the neighbourhood and beyond it."""
    model, (near, beyond) = adapter.model, neighbourhoods
    prompts, anchor_prompts, words = zip(*prompt_pairs, strict=True)
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    pool = trajectories.build_pool(model, prompts, run.seed_for("pool"))
    concept = locate_concept(model, prompts, words).concept_mask().int()
    mask = concept.flip(1).cumsum(1).flip(1) == concept  # tokens after which no token of the concept comes
    with torch.no_grad():
        anchors = model.encode(anchor_prompts)
    generator = run.generator("noise")
    parameters = adapter.trainable_params
    optimiser = torch.optim.AdamW(list(parameters.values()), lr=config.learning_rate)
    for step in run.steps(config.steps, parameters, optimiser):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        batch = pool.sample(config.batch_size, run.generator("batch"))
        near_cond = near.perturb(batch.cond, mask[batch.prompt_index], generator)
        beyond_cond = beyond.perturb(batch.cond, mask[batch.prompt_index], generator)
        z, t = torch.cat([batch.z, batch.z]), torch.cat([batch.t, batch.t])
        with torch.no_grad():
            target = model.predict(z, t, Conditioning.cat([anchors[batch.prompt_index], beyond_cond])).value
        errors = (adapter.predict(z, t, Conditioning.cat([near_cond, beyond_cond])).value - target).square()
        erase, preserve = errors[: config.batch_size].mean(), errors[config.batch_size :].mean()
        losses = {"erase": erase.detach(), "beyond": preserve.detach()}
        step.optimize(erase + config.beyond_loss_weight * preserve, losses)
