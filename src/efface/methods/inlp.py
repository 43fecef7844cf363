"""INLP: iterative nullspace projection (Ravfogel et al., ACL 2020, arXiv 2004.07667).

INLP trains a linear classifier of the concept on the text encoder's states h, projects its axis out of the states, and
repeats both until a classifier is no better than the most frequent class on held-out states:

    repeat:  w_i <- a linear classifier of z on P h;    P <- I - projection on span(w_1, ..., w_i)

    H <- P (H - c) + c        for the states H of every prompt

The labels z have a class for each word of the concept and each position kind (the concept's tokens, the words after it,
EOS, padding), and one class for other prompts. The other prompts' mean at each position kind is subtracted first:
without it, or with one class for all kinds, the classifiers find EOS instead of the concept.

Differences: the classifiers are softmax regressions fitted by L-BFGS, which always give the same weights, instead of
the published SGD. The published P is orthogonal and removes every classifier's axis from all prompts, which costs much
where states are narrow. ``whitening`` > 0 fits the classifiers to states of covariance I, where other prompts use other
axes than the concept; ``offset="others"`` preserves the mean state of other prompts. Both are ours; they do not change
what a linear classifier can find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.linear_erasure import InlpEraser
from efface.ops.text.labelled_states import LabelledStates, state_edit
from efface.ops.training.run import Run

CARD = MethodCard(
    name="inlp",
    title="INLP",
    paper="Ravfogel, Elazar, Gonen, Twiton, Goldberg: Null It Out: Guarding Protected Attributes by Iterative "
    "Nullspace Projection, ACL 2020",
    arxiv="2004.07667",
    families=("sd1",),
    trains="linear classifiers of the text encoder's states",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Projects the axes of linear classifiers of the concept out of the text encoder's states, one by one.",
)


@dataclass(frozen=True)
class Config:
    """INLP's settings; the defaults are the paper's for word vectors."""

    positions: str = field(
        default="all",
        metadata={
            "help": "Token positions that count as the concept's.",
            "range": "all, subject, eos, tail, subject+tail",
        },
    )
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    max_classifiers: int = field(default=21, metadata={"help": "Largest number of classifiers.", "range": "1 to 35"})
    tolerance: float = field(
        default=0.01, metadata={"help": "Accuracy above the most frequent class's share at which INLP stops."}
    )
    holdout_fraction: float = field(
        default=0.2, metadata={"help": "Share of the states to evaluate classifiers on.", "range": "0 to 1"}
    )
    ridge: float = field(default=1e-4, metadata={"help": "Weight of the classifiers' l2 penalty."})
    whitening: float = field(
        default=0.0, metadata={"help": "Share of I in the whitened covariance; 0 disables it.", "range": "0 to 1"}
    )
    offset: str = field(
        default="zero",
        metadata={"help": "State c that does not move: zero, others (mean of other prompts) or mean (of all)."},
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "positions": "subject+tail",
        "num_templates": 66,
        "max_classifiers": 1,
        "whitening": 0.01,
        "offset": "others",
    },
}


def inlp(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Fits one state edit for all concepts."""
    states = LabelledStates.from_concepts(
        model, concepts, num_templates=config.num_templates, positions=config.positions
    )
    eraser = InlpEraser(
        config.max_classifiers,
        tolerance=config.tolerance,
        holdout_fraction=config.holdout_fraction,
        ridge=config.ridge,
        seed=run.seed_for("holdout"),
    )
    edit, tensors = state_edit(states.projection(eraser, config.whitening), states.offset(config.offset))
    return run.erasure([edit], tensors)
