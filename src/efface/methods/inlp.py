"""INLP: iterative nullspace projection (Ravfogel et al., "Null It Out", ACL 2020, arXiv 2004.07667), on the text encoder's states.

    repeat:  w_i <- a linear classifier of z on P h;   P <- I - projection on span(w_1 .. w_i);        H <- P (H - c) + c

until a classifier does no better on held-out states than the most frequent class. z is a class for each word of the concept and kind of
place (its tokens, the words behind it, EOS, padding) and one for other prompts, all less the others' mean at that kind of place: with one
class for all kinds, or without the mean, classifiers find what EOS is. The classifiers are softmax regressions by L-BFGS, which give the
same weights every time, instead of the published SGD.

The published P is orthogonal and linear: it takes the whole axis of every classifier out of every prompt, and n of them out of D are much
where states are narrow. ``whiten`` > 0 fits in coordinates in which all states have the covariance I, where the axes that other prompts
use are not those of the concept; ``centre="others"`` leaves these where they are on average. Both are ours; what a linear classifier can
tell is the same with them.
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
    paper="Ravfogel, Elazar, Gonen, Twiton, Goldberg: Null It Out: Guarding Protected Attributes by Iterative Nullspace Projection, 2020",
    arxiv="2004.07667",
    families=("sd1",),
    trains="linear classifiers of the text encoder's states, whose axes are taken out",
    needs_gradient=False,
    needs_images=False,
    vram={},
    minutes={"pocket": 0.01},
    reconstruction=False,
    summary="Takes the axes of linear classifiers of the concept out of the text encoder's states, one after another, until none works.",
)


@dataclass(frozen=True)
class Config:
    """INLP's settings; the defaults are the paper's for word vectors."""

    positions: str = field(
        default="all", metadata={"help": "whose states are the concept's: all, subject, eos, tail, subject+tail"}
    )
    num_templates: int = field(
        default=0, metadata={"help": "sentences of the template library beside the concept's own", "range": "0 to 66"}
    )
    max_classifiers: int = field(default=21, metadata={"help": "classifiers at most", "range": "1 to 35"})
    tolerance: float = field(
        default=0.01, metadata={"help": "accuracy above the most frequent class's at which it ends"}
    )
    holdout_fraction: float = field(
        default=0.2, metadata={"help": "share of the states that classifiers are judged on"}
    )
    ridge: float = field(default=1e-4, metadata={"help": "weight of the classifiers' penalty"})
    whitening: float = field(
        default=0.0, metadata={"help": "share of I in the whitening; 0: none, as published", "range": "0 to 1"}
    )
    offset: str = field(
        default="zero",
        metadata={"help": "the state c that stays: zero, others (mean of other prompts) or mean (of all)"},
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
    """One state edit for all concepts."""
    rows = LabelledStates.of(model, concepts, templates=config.num_templates, places=config.positions)
    eraser = InlpEraser(
        config.max_classifiers,
        tolerance=config.tolerance,
        holdout=config.holdout_fraction,
        ridge=config.ridge,
        seed=run.seed_for("holdout"),
    )
    edit, tensors = state_edit(rows.projection(eraser, config.whitening), rows.offset(config.offset))
    return run.erasure([edit], tensors)
