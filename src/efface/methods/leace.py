"""LEACE: least-squares concept erasure (Belrose et al., NeurIPS 2023, arXiv 2306.03819), on the text encoder's states.

After it no linear classifier tells what z says of a state h, at the least mean change of h there is:

    r(h) = h - W^+ U U^T W (h - c),        W = S^(-1/2),    U an orthonormal basis of the range of W Sxz

with S the covariance of the states and Sxz that with z (`efface.ops.linear_erasure`); one `state` edit, of the places of all prompts.

The paper erases labels of single vectors. What is z of a prompt? Here one column for each word of the concept and kind of place (its
tokens, the words behind it, EOS, padding): positive there, negative at the same kind of place in other prompts, 0 elsewhere. Then Sxz are
the differences of means that the concept makes at a kind of place, and k of them are erased together, rank k. A label "with or without"
would mix them, and one class for each kind would erase what EOS is, not what the concept is at EOS.

The offset c is free: r(h) plus a constant is guarded as well. The paper's is the mean of all states (``centre="mean"``), half of them here
about the concept; around that of the other prompts (``"others"``), these stay where they are on average.

Guarded means linearly, for the states that it was fitted on. The denoiser reads states by a network that is not linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.linear_erasure import LeaceEraser
from efface.ops.text.labelled_states import LabelledStates, state_edit
from efface.ops.training.run import Run

CARD = MethodCard(
    name="leace",
    title="LEACE",
    paper="Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff, Biderman: LEACE: Perfect linear concept erasure in closed form, 2023",
    arxiv="2306.03819",
    families=("sd1",),
    trains="nothing; an affine map of the text encoder's states",
    needs_gradient=False,
    needs_images=False,
    vram={},
    minutes={"pocket": 0.01},
    reconstruction=False,
    summary="Takes what a linear classifier could tell of the concept out of the text encoder's states, in closed form.",
)


@dataclass(frozen=True)
class Config:
    """LEACE's settings; the defaults are the theorem's."""

    positions: str = field(
        default="all", metadata={"help": "whose states are the concept's: all, subject, eos, tail, subject+tail"}
    )
    num_templates: int = field(
        default=0, metadata={"help": "sentences of the template library beside the concept's own", "range": "0 to 66"}
    )
    method: str = field(
        default="leace", metadata={"help": "leace, or orth: the orthogonal projection with the same guarantee"}
    )
    shrinkage: float = field(
        default=0.0, metadata={"help": "weight of a multiple of I in S; more reaches further words", "range": "0 to 1"}
    )
    optimal_shrinkage: bool = field(default=False, metadata={"help": "the optimal linear shrinkage instead"})
    offset: str = field(
        default="mean", metadata={"help": "the state c that stays: mean (of all), others (of other prompts) or zero"}
    )
    tolerance: float = field(
        default=1e-9, metadata={"help": "singular values below this share of the largest are none"}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"optimal_shrinkage": True},
    "pocket": {"num_templates": 66, "shrinkage": 0.01, "offset": "others"},
}


def leace(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """One state edit for all concepts; nothing here is random."""
    rows = LabelledStates.of(model, concepts, templates=config.num_templates, places=config.positions)
    shrinkage = True if config.optimal_shrinkage else config.shrinkage
    eraser = LeaceEraser(config.method, shrinkage=shrinkage, tol=config.tolerance)
    edit, tensors = state_edit(eraser.fit(rows.x, rows.mean_difference_targets()).matrix, rows.offset(config.offset))
    return run.erasure([edit], tensors)
