"""SPEED: Scalable, Precise, and Efficient Concept Erasure (Li et al., ICLR 2026, arXiv 2503.07392).

A closed-form edit of the values that moves nothing which must stay: E is sought in the null space of what is retained, and some states
are held exactly. With P the projector on that null space, N the states that are held and the means S_tt = K K^T / m, S_at = A K^T / m,

    Delta = W (S_at - S_tt) P [ I - M N (N^T P M N + gamma I)^-1 N^T P ] M,        M = (S_tt P + beta I)^-1

which is the one problem of the closed-form family, within a subspace (see `efface.ops.closed_form.solve`). N is BOS and three centroids
of the other tokens of the empty prompt (the invariant equality constraints). Each layer has a retain set of its own: those of the retain
states that an edit would move most, and more of them along the direction that the layer hears least (`Refined`). With ``augment`` = 0
and without the filter all layers share one E.

The null space are the directions in which the mean of r r^T has an eigenvalue below ``threshold``: the scale of the states decides what
it means. Where the released code differs: an empty anchor's token is BOS, and the direction is the least that a layer hears at all, for
layers narrower than the text too, which are deaf to many (``released``). Editing values alone leaves attention where it was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import torch

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.closed_form import (
    EmbeddingCache,
    Invariants,
    LowRank,
    Pairs,
    PreservedStates,
    PriorRefinement,
    Problem,
    Statistics,
    build_pairs,
    concept_prompts,
    diagnose,
    k_means,
    layered_edit,
    null_space,
    to_edit,
)
from efface.ops.training.run import Run

CARD = MethodCard(
    name="speed",
    title="SPEED",
    paper="Li, Zhang, Lin, Wei, Liu, Wang, Yang: SPEED: Scalable, Precise, and Efficient Concept Erasure for Diffusion Models, ICLR 2026",
    arxiv="2503.07392",
    families=("sd1", "sd2", "sdxl"),
    trains="values of the attention to the text",
    needs_gradient=False,
    needs_images=False,
    vram={},
    minutes={},
    reconstruction=False,
    summary="Edits the values in closed form, within the null space of what must stay.",
)


@dataclass(frozen=True)
class Config:
    """SPEED's hyper-parameters; the defaults are the paper's for a few concepts."""

    target_modules: str = field(
        default="cross_v", metadata={"help": "which matrices are edited: cross_v, cross_k, cross_kv"}
    )
    token_positions: str = field(
        default="last", metadata={"help": "states that are paired: last, tail, eos, all (nudity)"}
    )
    num_templates: int = field(
        default=0, metadata={"help": "sentences of the template library, beside the words alone", "range": "0 to 66"}
    )
    ridge: float = field(
        default=1.0, metadata={"help": "ridge: 1 for few concepts, 0.05 for a hundred", "range": "0.01 to 1"}
    )
    invariant_weight: float = field(
        default=0.0, metadata={"help": "how softly BOS and the empty prompt are held; 0: exactly", "range": "0 to 1"}
    )
    eigenvalue_threshold: float = field(
        default=0.1, metadata={"help": "eigenvalue below which a direction is free", "range": "1e-4 to 1"}
    )
    num_augmented: int = field(
        default=10,
        metadata={"help": "states drawn around each retain state for each layer; 0: none", "range": "0 to 10"},
    )
    filter_retain: bool = field(
        default=True, metadata={"help": "whether each layer keeps the retain states only that an edit would move most"}
    )
    retain_token_positions: str = field(default="last", metadata={"help": "states of the retain prompts: last, all"})
    num_clusters: int = field(default=3, metadata={"help": "centroids of the empty prompt's tokens that are held"})
    bos_anchor: bool = field(
        default=False, metadata={"help": "an empty anchor's last token is BOS, as in the released code"}
    )
    allow_null_directions: bool = field(
        default=True,
        metadata={"help": "whether states may be drawn along a direction that a layer does not hear at all"},
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"bos_anchor": True, "allow_null_directions": False},
    "celebrities": {"ridge": 0.05, "filter_retain": False},
    "nudity": {"ridge": 0.7, "invariant_weight": 0.5, "token_positions": "all"},
    "pocket": {"token_positions": "tail", "num_templates": 66, "retain_token_positions": "all", "ridge": 0.05},
}


def speed(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Edit the values within what is free; one solve for all concepts."""
    return solve(model, statistics(model, concepts, config), config, run)


def statistics(
    model: EditableModel, concepts: Sequence[Concept], config: Config, known: Collection[str] = ()
) -> Statistics:
    """The states of the concepts and anchors, of the retain prompts, and all of the empty prompt's."""
    bank = EmbeddingCache.of(model)
    pairs = tuple(
        build_pairs(bank, concept_prompts(c, config.num_templates), config.token_positions, config.bos_anchor)
        for c in concepts
    )
    kept = PreservedStates.of(bank, [prompt for concept in concepts for prompt in concept.retain_prompts], False, known)
    if config.retain_token_positions == "all" and kept.texts:
        kept = replace(kept, states=torch.cat([bank.states(text)[1:] for text in kept.texts]).T)
    return Statistics(pairs, kept, {"empty": bank.states("").T})


def solve(model: EditableModel, found: Statistics, config: Config, run: Run) -> Erasure:
    """The erasure from what `statistics` gives."""
    pairs, empty = Pairs.cat(found.pairs), found.extra["empty"]
    pairs = pairs.scaled(1 / len(pairs))
    held = torch.cat([empty[:, :1], k_means(empty[:, 1:], config.num_clusters, run.generator("clusters"))], dim=1)
    retained = empty[:, 1:] if found.kept.states is None else found.kept.states
    provisional, sites = Problem(pairs, ridge=1.0).solve(), model.parameter_group(config.target_modules)
    refined = PriorRefinement(config.filter_retain, config.num_augmented, config.allow_null_directions)
    if not config.num_augmented and not config.filter_retain:
        problem = null_space_problem(pairs, retained @ retained.T / retained.shape[1], held, config)
        run.record("solve", diagnose(problem, problem.solve(), sites.parameters).numbers())
        edit, tensors = to_edit(model, problem.solve(), config.target_modules)
        return run.erasure([edit], {**tensors, **found.tensors()})
    edits: dict[str, LowRank] = {}
    for name, weight in run.track("layers", sites.parameters.items()):
        own = weight.detach().double().cpu()
        problem = null_space_problem(
            pairs, refined.gram(own, provisional, retained, run.generator("augment")), held, config
        )
        edits[name] = problem.solve()
        run.record("solve", diagnose(problem, edits[name], {name: weight}).numbers())
    edit, tensors = layered_edit(edits, sites)
    return run.erasure([edit], {**tensors, **found.tensors()})


def null_space_problem(pairs: Pairs, gram: torch.Tensor, held: torch.Tensor, config: Config) -> Problem:
    """The problem in the null space of a Gram, with states that are held."""
    return Problem(
        pairs,
        ridge=config.ridge,
        subspace=null_space(gram, config.eigenvalue_threshold),
        invariants=Invariants(held, config.invariant_weight),
    )
