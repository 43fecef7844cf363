"""RECE: Reliable and Efficient Concept Erasure (Gong, Chen, Wei, Chen, Jiang, ECCV 2024, arXiv 2407.12383).

After a first closed-form erasure (UCE), the concept can be reached by other embeddings. RECE derives them in closed form: c' is what makes
the edited matrices W answer as the original ones W* do for the concept's states c,

    c' = argmin_x  sum_l |W_l x - W*_l c|^2 + mu |x|^2  =  (mu I + sum_l W_l^T W_l)^-1 (sum_l W_l^T W*_l) c

and then erases c', too, from the matrices as they are now, and so on for some epochs. As every edit is W <- W (I + E) with one E for all
layers, W = W* T, and with the one sum H = sum_l W*_l^T W*_l all of it happens in d x d: c' = (mu I + T^T H T)^-1 T^T H c, T <- T (I + E).

The first erasure is UCE's; ``first`` = False leaves it out. The others pair all tokens of c' with those of the anchor, in order, with a
ridge of 0.1, and preserve all tokens of the empty prompt with weight 0.1 for each concept, and of the retain prompts. mu is 0.1 for
nudity and easy objects, 1e-3 for artists and hard objects; 3 epochs for nudity, else 1. The authors choose the epoch by a detector of
images; here their number is a setting.
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
    LowRank,
    Pairs,
    PreservedStates,
    Problem,
    Statistics,
    build_pairs,
    concept_prompts,
    diagnose,
    to_edit,
)
from efface.ops.training.run import Run

CARD = MethodCard(
    name="rece",
    title="RECE",
    paper="Gong, Chen, Wei, Chen, Jiang: Reliable and Efficient Concept Erasure of Text-to-Image Diffusion Models, ECCV 2024",
    arxiv="2407.12383",
    families=("sd1", "sd2", "sdxl"),
    trains="keys and values of the attention to the text",
    needs_gradient=False,
    needs_images=False,
    vram={},
    minutes={},
    reconstruction=False,
    summary="Erases in closed form, derives what still reaches the concept, and erases that, too.",
)


@dataclass(frozen=True)
class Config:
    """RECE's hyper-parameters; the defaults are the paper's for nudity."""

    epochs: int = field(
        default=3, metadata={"help": "how often what still reaches the concept is erased", "range": "1 to 10"}
    )
    derivation_ridge: float = field(default=0.1, metadata={"help": "ridge of the derivation", "range": "1e-4 to 1"})
    ridge: float = field(
        default=0.1, metadata={"help": "lambda of the epochs, closeness to the matrices before", "range": "0.01 to 10"}
    )
    preserve_scale: float = field(
        default=0.1, metadata={"help": "weight of a preserved state in the epochs, for each concept"}
    )
    run_uce: bool = field(default=True, metadata={"help": "whether UCE goes first"})
    uce_ridge: float = field(default=0.5, metadata={"help": "lambda of UCE"})
    uce_preserve_scale: float = field(default=1.0, metadata={"help": "weight of a preserved state in UCE"})
    token_positions: str = field(default="tail", metadata={"help": "states that UCE pairs: last, tail, eos, all"})
    num_templates: int = field(
        default=0, metadata={"help": "sentences of the template library, beside the words alone", "range": "0 to 66"}
    )
    edit_format: str = field(
        default="low_rank", metadata={"help": "how the edit is kept: low_rank (a LoRA) or filter (of the states)"}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "artist": {"derivation_ridge": 1e-3, "epochs": 1},
    "pocket": {
        "num_templates": 66,
        "uce_preserve_scale": 3.0,
        "uce_ridge": 50.0,
        "preserve_scale": 3.0,
        "ridge": 200.0,
        "epochs": 1,
    },
}


def rece(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erase in closed form, again and again."""
    return solve(model, statistics(model, concepts, config), config, run)


def statistics(
    model: EditableModel, concepts: Sequence[Concept], config: Config, known: Collection[str] = ()
) -> Statistics:
    """For each concept its pairs of UCE and, behind them, those of all tokens; and what must stay, the empty prompt first."""
    bank = EmbeddingCache.of(model)
    rows = [concept_prompts(concept, config.num_templates) for concept in concepts]
    pairs = tuple(
        Pairs.cat([build_pairs(bank, own, config.token_positions).scaled(1.0), _whole(build_pairs(bank, own, "all"))])
        for own in rows
    )
    return Statistics(
        pairs,
        PreservedStates.of(
            bank, ["", *(prompt for concept in concepts for prompt in concept.retain_prompts)], True, known
        ),
    )


def _whole(pairs: Pairs) -> Pairs:
    """Marked as those of the epochs: a weight of zero, so that UCE does not see them."""
    return replace(pairs, weight=torch.zeros_like(pairs.weight))


def solve(model: EditableModel, found: Statistics, config: Config, run: Run) -> Erasure:
    """The erasure from what `statistics` gives."""
    weights = model.parameter_group("cross_kv").parameters
    every = Pairs.cat(found.pairs)
    uce, whole = _chosen(every, every.weight > 0), _chosen(every, every.weight == 0)
    edit = LowRank.zero(len(every.source))
    if config.run_uce:
        problem = Problem(uce, found.kept.preserve(config.uce_preserve_scale), config.uce_ridge)
        edit = problem.solve()
        run.record("solve", diagnose(problem, edit, weights).numbers())
    heard = torch.stack([w.detach().double().cpu().T @ w.detach().double().cpu() for w in weights.values()]).sum(0)
    for _ in range(config.epochs):
        reached = derive(edit.matrix(), heard, whole.source, config.derivation_ridge)
        kept = found.kept.preserve(config.preserve_scale * len(found.pairs))
        problem = Problem(Pairs(reached, whole.anchor, torch.ones_like(whole.weight), whole.texts), kept, config.ridge)
        step = problem.solve()
        edit = edit.compose(step).compact()
        run.record("solve", diagnose(problem, step, weights).numbers())
    changed, tensors = to_edit(model, edit, "cross_kv", config.edit_format)
    return run.erasure([changed], {**tensors, **found.tensors()})


def derive(matrix: torch.Tensor, heard: torch.Tensor, states: torch.Tensor, mu: float) -> torch.Tensor:
    """C' ``(d, m)`` for the columns c ``(d, m)``: what the edited matrices W* T answer as the original ones answer c.

    Args:
        matrix: T, ``(d, d)``.
        heard: H = sum_l W*_l^T W*_l, ``(d, d)``.
        states: c.
        mu: ridge.
    """
    system = matrix.T @ heard @ matrix + mu * torch.eye(len(matrix), dtype=torch.float64)
    return torch.cholesky_solve(matrix.T @ heard @ states, torch.linalg.cholesky(system))


def _chosen(pairs: Pairs, which: torch.Tensor) -> Pairs:
    texts = tuple(text for text, taken in zip(pairs.texts, which.tolist(), strict=True) if taken)
    return Pairs(pairs.source[:, which], pairs.anchor[:, which], pairs.weight[which], texts)
