"""SPEED: Scalable, Precise, and Efficient Concept Erasure (Li et al., ICLR 2026, arXiv 2503.07392).

SPEED edits the cross-attention values W in closed form, in the null space of the retained states, and holds some states
exactly. With the projector P on that null space, the held states N, the concepts' states K, the anchors' A, and S_tt
and S_at the means over concepts of the sums of k k^T and a k^T over a prompt's tokens,

    Delta = W (S_at - S_tt) P [ I - M N (N^T P M N + gamma I)^-1 N^T P ] M,        M = (S_tt P + beta I)^-1

with beta = ``ridge`` and gamma = ``invariant_weight``: the common closed-form problem within a subspace
(`efface.ops.closed_form.solve`). N is BOS and three centroids of the empty prompt's other tokens (invariant equality
constraints). Each layer has its own retain set (`PriorRefinement`): the retain states that an edit would move most, and
states around them in the direction to which the layer is least sensitive. Without both, all layers share one E.

The null space contains the directions in which the mean of r r^T over retain states r has an eigenvalue below
``eigenvalue_threshold``, which therefore depends on the scale of the states. An edit of values alone leaves the
attention unchanged.

Differences: (1) In the released code, an empty text's last token is BOS; here it is the end of text. (2) Its direction
lies outside a layer's null space, although layers narrower than the text have a large one. (3) Without augmentation it
does not filter either; here each is its own setting, as in the paper's ablation. Preset ``released`` follows all three.
For nudity the code pairs all tokens but BOS (preset ``nudity``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import torch

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.float32_weights import float32_group
from efface.ops.closed_form import (
    EmbeddingCache,
    Invariants,
    LowRankUpdate,
    Pairs,
    PreservedStates,
    PriorRefinement,
    Problem,
    Statistics,
    concept_pairs,
    concept_prompts,
    k_means,
    layered_edit,
    null_space,
    solve_and_record,
    to_edit,
)
from efface.ops.training.run import Run

CARD = MethodCard(
    name="speed",
    title="SPEED",
    paper="Li, Zhang, Lin, Wei, Liu, Wang, Yang: SPEED: Scalable, Precise, and Efficient Concept Erasure for Diffusion "
    "Models, ICLR 2026",
    arxiv="2503.07392",
    families=("sd1", "sd2", "sdxl", "sd3", "flux"),
    trains="cross-attention values",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Edits the cross-attention values in closed form, in the null space of the retained states.",
)


@dataclass(frozen=True)
class Config:
    """SPEED's hyper-parameters; the defaults are the paper's for a few concepts."""

    target_modules: str = field(
        default="cross_v", metadata={"help": "Parameter group to change.", "range": "cross_v, cross_k, cross_kv"}
    )
    token_positions: str = field(
        default="last", metadata={"help": "Token states to redirect.", "range": "last, tail, eos, all, after_bos"}
    )
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    ridge: float = field(
        default=1.0,
        metadata={
            "help": "Weight of the weights' change: 1 for few concepts, 0.05 for a hundred.",
            "range": "0.01 to 1",
        },
    )
    invariant_weight: float = field(
        default=0.0, metadata={"help": "Softness gamma of the held states; 0 holds them exactly.", "range": "0 to 1"}
    )
    eigenvalue_threshold: float = field(
        default=0.1, metadata={"help": "Eigenvalue below which a direction may be edited.", "range": "1e-4 to 1"}
    )
    num_augmented: int = field(
        default=10, metadata={"help": "Number of samples around each retain state per layer.", "range": "0 to 10"}
    )
    filter_retain: bool = field(
        default=True, metadata={"help": "Keep per layer only the retain states that an edit would move most."}
    )
    retain_token_positions: str = field(
        default="last", metadata={"help": "Token states of the retain prompts.", "range": "last, all"}
    )
    num_clusters: int = field(default=3, metadata={"help": "Number of held centroids of the empty prompt's tokens."})
    average_over_tokens: bool = field(
        default=False, metadata={"help": "Average over all paired tokens; otherwise a prompt's tokens add up."}
    )
    filter_without_augmentation: bool = field(
        default=True, metadata={"help": "Filter the retain states even if num_augmented is 0."}
    )
    empty_as_bos: bool = field(default=False, metadata={"help": "Use BOS as the last token of an empty text."})
    allow_null_directions: bool = field(
        default=True, metadata={"help": "Allow samples in directions that a layer does not respond to."}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "sd3": {"target_modules": "reads_text"},
    "flux": {"target_modules": "reads_text"},
    "released": {"empty_as_bos": True, "allow_null_directions": False, "filter_without_augmentation": False},
    "celebrities": {"ridge": 0.05, "filter_retain": False},
    "nudity": {"ridge": 0.7, "invariant_weight": 0.5, "token_positions": "after_bos"},
    "pocket": {
        "token_positions": "tail",
        "num_templates": 66,
        "retain_token_positions": "all",
        "average_over_tokens": True,
        "ridge": 0.05,
    },
}


def speed(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Edits the values in the null space; all concepts are solved together."""
    return solve(model, statistics(model, concepts, config), config, run)


def statistics(
    model: EditableModel, concepts: Sequence[Concept], config: Config, known: Collection[str] = ()
) -> Statistics:
    """Encodes the concepts, their anchors, the retain prompts and the empty prompt.

    Args:
        model: the original model.
        concepts: the concepts.
        config: the configuration.
        known: texts that are preserved already and are left out.
    """
    cache = EmbeddingCache.for_model(model)
    pairs = concept_pairs(cache, concepts, config.num_templates, config.token_positions, config.empty_as_bos)
    if not config.average_over_tokens:
        num_prompts = [len(concept_prompts(concept, config.num_templates)) for concept in concepts]
        pairs = tuple(rows.scaled(1 / number) for rows, number in zip(pairs, num_prompts, strict=True))
    retain_prompts = [prompt for concept in concepts for prompt in concept.retain_prompts]
    preserved = PreservedStates.from_texts(cache, retain_prompts, False, known, config.empty_as_bos)
    if config.retain_token_positions == "all" and preserved.texts:
        states = torch.cat([cache.states(text)[cache.positions(text).segments[0].start :] for text in preserved.texts])
        preserved = replace(preserved, states=states.T)
    return Statistics(pairs, preserved, {"empty": cache.states("").T})


def solve(model: EditableModel, stats: Statistics, config: Config, run: Run) -> Erasure:
    """Computes the erasure from its `statistics`."""
    pairs = Pairs.cat(stats.pairs)
    pairs = pairs.scaled(1 / (len(pairs) if config.average_over_tokens else len(stats.pairs)))
    bos, empty = stats.extra["empty"][:, :1], stats.extra["empty"][:, 1:]
    held = torch.cat([bos, k_means(empty, config.num_clusters, run.generator("clusters"))], dim=1)
    retained = empty if stats.preserved.states is None else stats.preserved.states
    layers = float32_group(model, config.target_modules)
    filters = config.filter_retain and (config.num_augmented > 0 or config.filter_without_augmentation)
    if not config.num_augmented and not filters:
        problem = null_space_problem(pairs, retained @ retained.T / retained.shape[1], held, config)
        edit, tensors = to_edit(model, solve_and_record(problem, layers.parameters, run), config.target_modules)
        return run.erasure([edit], {**tensors, **stats.tensors()})
    provisional = Problem(pairs, ridge=1.0).solve()
    refinement = PriorRefinement(filters, config.num_augmented, config.allow_null_directions)
    updates: dict[str, LowRankUpdate] = {}
    for name, weight in run.track("layers", layers.parameters.items()):
        gram = refinement.gram(weight.detach().double().cpu(), provisional, retained, run.generator("augment"))
        updates[name] = solve_and_record(null_space_problem(pairs, gram, held, config), {name: weight}, run)
    edit, tensors = layered_edit(updates, layers)
    return run.erasure([edit], {**tensors, **stats.tensors()})


def null_space_problem(pairs: Pairs, gram: torch.Tensor, held: torch.Tensor, config: Config) -> Problem:
    """Builds the problem in the null space of a Gram matrix ``(d, d)``, with held states ``(d, q)``."""
    return Problem(
        pairs,
        ridge=config.ridge,
        subspace=null_space(gram, config.eigenvalue_threshold),
        invariants=Invariants(held, config.invariant_weight),
    )
