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
from efface.core.method_card import Card
from efface.models.editable import Editable
from efface.ops.closed_form import (
    EmbeddingBank,
    Invariants,
    Kept,
    LowRank,
    Pairs,
    Problem,
    Refined,
    Statistics,
    diagnose,
    edit_of,
    k_means,
    layered_edit,
    null_space,
    pairs_of,
    sentences,
)
from efface.ops.training.run import Run

CARD = Card(
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

    sites: str = field(default="cross_v", metadata={"help": "which matrices are edited: cross_v, cross_k, cross_kv"})
    tokens: str = field(default="last", metadata={"help": "states that are paired: last, tail, eos, all (nudity)"})
    templates: int = field(
        default=0, metadata={"help": "sentences of the template library, beside the words alone", "range": "0 to 66"}
    )
    beta: float = field(
        default=1.0, metadata={"help": "ridge: 1 for few concepts, 0.05 for a hundred", "range": "0.01 to 1"}
    )
    gamma: float = field(
        default=0.0, metadata={"help": "how softly BOS and the empty prompt are held; 0: exactly", "range": "0 to 1"}
    )
    threshold: float = field(
        default=0.1, metadata={"help": "eigenvalue below which a direction is free", "range": "1e-4 to 1"}
    )
    augment: int = field(
        default=10,
        metadata={"help": "states drawn around each retain state for each layer; 0: none", "range": "0 to 10"},
    )
    filter: bool = field(
        default=True, metadata={"help": "whether each layer keeps the retain states only that an edit would move most"}
    )
    retain_tokens: str = field(default="last", metadata={"help": "states of the retain prompts: last, all"})
    clusters: int = field(default=3, metadata={"help": "centroids of the empty prompt's tokens that are held"})
    bos_anchor: bool = field(
        default=False, metadata={"help": "an empty anchor's last token is BOS, as in the released code"}
    )
    kernel: bool = field(
        default=True,
        metadata={"help": "whether states may be drawn along a direction that a layer does not hear at all"},
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"bos_anchor": True, "kernel": False},
    "celebrities": {"beta": 0.05, "filter": False},
    "nudity": {"beta": 0.7, "gamma": 0.5, "tokens": "all"},
    "pocket": {"tokens": "tail", "templates": 66, "retain_tokens": "all", "beta": 0.05},
}


def speed(model: Editable, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Edit the values within what is free; one solve for all concepts."""
    return solve(model, statistics(model, concepts, config), config, run)


def statistics(model: Editable, concepts: Sequence[Concept], config: Config, known: Collection[str] = ()) -> Statistics:
    """The states of the concepts and anchors, of the retain prompts, and all of the empty prompt's."""
    bank = EmbeddingBank.of(model)
    pairs = tuple(pairs_of(bank, sentences(c, config.templates), config.tokens, config.bos_anchor) for c in concepts)
    kept = Kept.of(bank, [prompt for concept in concepts for prompt in concept.retain], False, known)
    if config.retain_tokens == "all" and kept.texts:
        kept = replace(kept, states=torch.cat([bank.states(text)[1:] for text in kept.texts]).T)
    return Statistics(pairs, kept, {"empty": bank.states("").T})


def solve(model: Editable, found: Statistics, config: Config, run: Run) -> Erasure:
    """The erasure from what `statistics` gives."""
    pairs, empty = Pairs.cat(found.pairs), found.extra["empty"]
    pairs = pairs.scaled(1 / len(pairs))
    held = torch.cat([empty[:, :1], k_means(empty[:, 1:], config.clusters, run.generator("clusters"))], dim=1)
    retained = empty[:, 1:] if found.kept.states is None else found.kept.states
    provisional, sites = Problem(pairs, ridge=1.0).solve(), model.sites(config.sites)
    refined = Refined(config.filter, config.augment, config.kernel)
    if not config.augment and not config.filter:
        problem = within(pairs, retained @ retained.T / retained.shape[1], held, config)
        run.record("solve", diagnose(problem, problem.solve(), sites.parameters).numbers())
        edit, tensors = edit_of(model, problem.solve(), config.sites)
        return run.erasure([edit], {**tensors, **found.tensors()})
    edits: dict[str, LowRank] = {}
    for name, weight in run.each("layers", sites.parameters.items()):
        own = weight.detach().double().cpu()
        problem = within(pairs, refined.gram(own, provisional, retained, run.generator("augment")), held, config)
        edits[name] = problem.solve()
        run.record("solve", diagnose(problem, edits[name], {name: weight}).numbers())
    edit, tensors = layered_edit(edits, sites)
    return run.erasure([edit], {**tensors, **found.tensors()})


def within(pairs: Pairs, gram: torch.Tensor, held: torch.Tensor, config: Config) -> Problem:
    """The problem in the null space of a Gram, with states that are held."""
    return Problem(
        pairs, ridge=config.beta, subspace=null_space(gram, config.threshold), invariants=Invariants(held, config.gamma)
    )
