"""LEACE: least-squares concept erasure (Belrose et al., NeurIPS 2023, arXiv 2306.03819).

LEACE maps the text encoder's states h such that no linear classifier can predict z from them, with the least mean
change of h:

    r(h) = h - W^+ U U^T W (h - c),        W = S^(-1/2),    U an orthonormal basis of the range of W Sxz

S is the covariance of the states and Sxz their covariance with z (`efface.ops.linear_erasure`). One ``state`` edit
applies r to every position of every prompt.

The paper erases labels of single vectors. Here z has one column for each word of the concept and each position kind
(the concept's tokens, the words after it, EOS, padding): positive for the concept's states, negative for states of the
same kind in other prompts, and 0 elsewhere. Sxz then holds the k mean differences that the concept makes, and r erases
them together, with rank k. One label "with or without the concept" would mix the kinds, and a class for each kind would
erase what makes EOS an EOS.

Differences: the paper's offset c is the mean of all states (``offset="mean"``), half of which are the concept's here.
``offset="others"`` is the mean of other prompts' states, which then do not move on average; the guarantee is the same.

The guarantee holds for linear classifiers and for the states that r was fitted to. The denoiser is not linear.
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
    paper="Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff, Biderman: LEACE: Perfect linear concept erasure in "
    "closed form, NeurIPS 2023",
    arxiv="2306.03819",
    families=("sd1",),
    trains="nothing; solves for an affine map of the text encoder's states",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Removes from the text encoder's states, in closed form, all that a linear classifier can use.",
)


@dataclass(frozen=True)
class Config:
    """LEACE's settings; the defaults are the theorem's."""

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
    method: str = field(default="leace", metadata={"help": "Map: leace, or orth (the orthogonal projection, W = I)."})
    shrinkage: float = field(
        default=0.0, metadata={"help": "Shrinkage of S towards a multiple of I.", "range": "0 to 1"}
    )
    optimal_shrinkage: bool = field(default=False, metadata={"help": "Use the optimal shrinkage instead."})
    offset: str = field(
        default="mean",
        metadata={"help": "State c that does not move: zero, others (mean of other prompts) or mean (of all)."},
    )
    tolerance: float = field(
        default=1e-9, metadata={"help": "Share of the largest singular value below which one counts as 0."}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"optimal_shrinkage": True},
    "pocket": {"num_templates": 66, "shrinkage": 0.01, "offset": "others"},
}


def leace(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Solves for one state edit for all concepts; nothing is random."""
    states = LabelledStates.from_concepts(
        model, concepts, num_templates=config.num_templates, positions=config.positions
    )
    shrinkage = True if config.optimal_shrinkage else config.shrinkage
    eraser = LeaceEraser(config.method, shrinkage=shrinkage, tolerance=config.tolerance)
    matrix = eraser.fit(states.states, states.mean_difference_targets()).matrix
    edit, tensors = state_edit(matrix, states.offset(config.offset))
    return run.erasure([edit], tensors)
