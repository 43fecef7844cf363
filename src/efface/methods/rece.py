"""RECE: Reliable and Efficient Concept Erasure (Gong, Chen, Wei, Chen, Jiang, ECCV 2024, arXiv 2407.12383).

After a first closed-form erasure (UCE), other embeddings still reach the concept. RECE derives such embeddings c' in
closed form: with them, the edited cross-attention matrices W respond as the original matrices W* do to the concept's
states c,

    c' = argmin_x  sum_l |W_l x - W*_l c|^2 + mu |x|^2  =  (mu I + sum_l W_l^T W_l)^-1 (sum_l W_l^T W*_l) c

with mu = ``derivation_ridge``. It then erases c' from the present matrices and repeats both for some epochs. Every edit
is W <- W (I + E) with one E for all layers, so that W = W* T. With H = sum_l W*_l^T W*_l, all matrices are d x d:
c' = (mu I + T^T H T)^-1 T^T H c, T <- T (I + E).

``run_uce=False`` omits UCE. The epochs pair all tokens of c' with the anchor's in order, with ridge 0.1, and preserve
all tokens of the empty prompt and of the retain prompts, with weight 0.1 each. The paper uses mu = 0.1 for nudity and
easy objects, 1e-3 for artists and hard objects, and 3 epochs for nudity, else 1.

Differences: the authors choose the epoch by a detector of images; here the number of epochs is a setting. (1) In the
released code, an empty anchor's last token, to which UCE maps the concept's, is BOS, which all prompts share; here it
is the end of text. (2) Its epochs preserve the empty prompt once for each concept, as ``counted_per_concept="empty"``
does; here it counts once. Preset ``released`` follows both.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import UnknownNameError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.float32_weights import float32_group
from efface.ops.closed_form import (
    EmbeddingCache,
    LowRankUpdate,
    Pairs,
    Preserve,
    PreservedStates,
    Problem,
    Statistics,
    concept_pairs,
    solve_and_record,
    to_edit,
)
from efface.ops.training.run import Run

CARD = MethodCard(
    name="rece",
    title="RECE",
    paper="Gong, Chen, Wei, Chen, Jiang: Reliable and Efficient Concept Erasure of Text-to-Image Diffusion Models, "
    "ECCV 2024",
    arxiv="2407.12383",
    families=("sd1", "sd2", "sdxl", "sd3", "flux"),
    trains="cross-attention keys and values",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Erases the concept in closed form, derives embeddings that still reach it, and erases them as well.",
)
COUNTED_PER_CONCEPT = ("none", "empty", "all")


@dataclass(frozen=True)
class Config:
    """RECE's hyper-parameters; the defaults are the paper's for nudity."""

    epochs: int = field(default=3, metadata={"help": "Number of derivations and erasures.", "range": "1 to 10"})
    derivation_ridge: float = field(
        default=0.1, metadata={"help": "Weight mu of the derived embedding's norm.", "range": "1e-4 to 1"}
    )
    ridge: float = field(
        default=0.1, metadata={"help": "Weight lambda of the weights' change.", "range": "0.01 to 200"}
    )
    preserve_scale: float = field(default=0.1, metadata={"help": "Weight of a preserved state."})
    counted_per_concept: str = field(
        default="none",
        metadata={"help": "Preserved prompts whose weight counts once per concept: none, empty (that one) or all."},
    )
    run_uce: bool = field(default=True, metadata={"help": "Erase with UCE first."})
    uce_ridge: float = field(default=0.5, metadata={"help": "Weight lambda of the weights' change in UCE."})
    uce_preserve_scale: float = field(default=1.0, metadata={"help": "Weight of a preserved state in UCE."})
    token_positions: str = field(
        default="tail", metadata={"help": "Token states to redirect.", "range": "last, tail, eos, all, after_bos"}
    )
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    empty_as_bos: bool = field(default=False, metadata={"help": "Use BOS as the last token of an empty text."})
    edit_format: str = field(
        default="low_rank", metadata={"help": "Form of the edit: low_rank (a LoRA) or filter (a map of text states)."}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"empty_as_bos": True, "counted_per_concept": "empty"},
    "artist": {"derivation_ridge": 1e-3, "epochs": 1},
    "pocket": {
        "num_templates": 66,
        "uce_preserve_scale": 3.0,
        "uce_ridge": 50.0,
        "preserve_scale": 3.0,
        "counted_per_concept": "all",
        "ridge": 200.0,
        "epochs": 1,
    },
}


def rece(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases all concepts with UCE, then in every epoch the embeddings that still reach them."""
    return solve(model, statistics(model, concepts, config), config, run)


def statistics(
    model: EditableModel, concepts: Sequence[Concept], config: Config, known: Collection[str] = ()
) -> Statistics:
    """Encodes the concepts, their anchors and the states to preserve, the empty prompt first.

    The pairs of each concept are UCE's followed by those of the epochs, which have weight 0.

    Args:
        model: the original model.
        concepts: the concepts.
        config: the configuration.
        known: texts that are preserved already and are left out.
    """
    cache = EmbeddingCache.for_model(model)
    uce_pairs = concept_pairs(cache, concepts, config.num_templates, config.token_positions, config.empty_as_bos)
    epoch_pairs = concept_pairs(cache, concepts, config.num_templates, "all")
    pairs = tuple(
        Pairs.cat([of_uce, of_epochs.scaled(0)]) for of_uce, of_epochs in zip(uce_pairs, epoch_pairs, strict=True)
    )
    texts = ["", *(prompt for concept in concepts for prompt in concept.retain_prompts)]
    preserved = PreservedStates.from_texts(cache, texts, True, known)
    return Statistics(pairs, preserved, {"empty": cache.states("").T})


def solve(model: EditableModel, stats: Statistics, config: Config, run: Run) -> Erasure:
    """Computes the erasure from its `statistics`."""
    weights = float32_group(model, "reads_text").parameters
    pairs = Pairs.cat(stats.pairs)
    uce_pairs, epoch_pairs = _select(pairs, pairs.weight > 0), _select(pairs, pairs.weight == 0)
    update = LowRankUpdate.zero(len(pairs.source))
    if config.run_uce:
        problem = Problem(uce_pairs, stats.preserved.preserve(config.uce_preserve_scale), config.uce_ridge)
        update = solve_and_record(problem, weights, run)
    grams = [weight.detach().double().cpu().T @ weight.detach().double().cpu() for weight in weights.values()]
    response = torch.stack(grams).sum(0)
    preserve = _epoch_preserve(stats, config)
    ones = torch.ones_like(epoch_pairs.weight)
    for _ in range(config.epochs):
        derived = _derive(update.matrix(), response, epoch_pairs.source, config.derivation_ridge)
        problem = Problem(Pairs(derived, epoch_pairs.anchor, ones, epoch_pairs.texts), preserve, config.ridge)
        update = update.compose(solve_and_record(problem, weights, run)).compact()
    edit, tensors = to_edit(model, update, "reads_text", config.edit_format)
    return run.erasure([edit], {**tensors, **stats.tensors()})


def _epoch_preserve(stats: Statistics, config: Config) -> Preserve:
    """Returns the states that an epoch preserves, with their weights."""
    if config.counted_per_concept not in COUNTED_PER_CONCEPT:
        raise UnknownNameError("counted_per_concept", config.counted_per_concept, COUNTED_PER_CONCEPT)
    num_concepts = len(stats.pairs)
    if config.counted_per_concept == "all":
        return stats.preserved.preserve(config.preserve_scale * num_concepts)
    preserve = stats.preserved.preserve(config.preserve_scale)
    if config.counted_per_concept == "none" or num_concepts == 1:
        return preserve
    empty = stats.extra["empty"]
    return preserve.with_gram(empty @ empty.T, config.preserve_scale * (num_concepts - 1))


def _derive(matrix: Tensor, response: Tensor, states: Tensor, mu: float) -> Tensor:
    """Computes the embeddings c' to which the edited matrices W* T respond as the original ones do to c.

    Args:
        matrix: T, ``(d, d)``.
        response: H = sum_l W*_l^T W*_l, ``(d, d)``.
        states: c as columns, ``(d, m)``.
        mu: ridge.
    """
    system = matrix.T @ response @ matrix + mu * torch.eye(len(matrix), dtype=torch.float64)
    return torch.cholesky_solve(matrix.T @ response @ states, torch.linalg.cholesky(system))


def _select(pairs: Pairs, mask: Tensor) -> Pairs:
    """Returns the pairs under a bool mask ``(m,)``."""
    texts = tuple(text for text, is_selected in zip(pairs.texts, mask.tolist(), strict=True) if is_selected)
    return Pairs(pairs.source[:, mask], pairs.anchor[:, mask], pairs.weight[mask], texts)
