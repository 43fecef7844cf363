"""R-LACE: relaxed linear adversarial concept erasure (Ravfogel et al., ICML 2022, arXiv 2201.12091), on the text encoder's states.

    max over P in F_k    min over theta, b    E loss( z, theta^T (I - P) h + b ),        F_k = { 0 <= P <= I, tr P = k }

by gradient steps in turn; H <- (I - P*) (H - c) + c with P* the projection on P's k largest eigenvectors. z is a class for each word of the
concept and kind of place (its tokens, the words behind it, EOS, padding) and one for other prompts, all less the others' mean at that kind
of place, as in INLP; k is ``rank`` for each concept. Steps on P cost no eigendecomposition of all D, the Fantope's threshold is exact
instead of bisected (`efface.ops.linear_erasure.fantope`), and at every check the newly fitted classifier is a softmax regression by L-BFGS.

``warm_start`` begins with the directions of the class means instead of a random P: for a rank that holds them all, the game is over at the
first check. ``whiten`` and ``centre`` are ours, for the sake of other prompts, and explained at INLP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.linear_erasure import RlaceEraser
from efface.ops.text.labelled_states import LabelledStates, state_edit
from efface.ops.training.run import Run

CARD = MethodCard(
    name="rlace",
    title="R-LACE",
    paper="Ravfogel, Twiton, Goldberg, Cotterell: Linear Adversarial Concept Erasure, ICML 2022",
    arxiv="2201.12091",
    families=("sd1",),
    trains="a projection of the text encoder's states against a linear classifier",
    needs_gradient=False,
    needs_images=False,
    vram={},
    minutes={"pocket": 0.05},
    reconstruction=False,
    summary="Plays a projection of the text encoder's states of rank k against a linear classifier of the concept, until that one loses.",
)


@dataclass(frozen=True)
class Config:
    """R-LACE's settings; the defaults are the paper's."""

    positions: str = field(
        default="all", metadata={"help": "whose states are the concept's: all, subject, eos, tail, subject+tail"}
    )
    num_templates: int = field(
        default=0, metadata={"help": "sentences of the template library beside the concept's own", "range": "0 to 66"}
    )
    rank: int = field(
        default=1, metadata={"help": "dimensions that are taken out for each concept, k", "range": "1 to 100"}
    )
    steps: int = field(default=75_000, metadata={"help": "of the minimax, at most", "range": "500 to 75000"})
    learning_rate: float = field(default=0.005, metadata={"help": "step of both players"})
    weight_decay: float = field(default=1e-4, metadata={"help": "weight decay of both players"})
    batch_size: int = field(default=128, metadata={"help": "states a step"})
    check_every: int = field(default=1000, metadata={"help": "steps between newly fitted classifiers"})
    tolerance: float = field(
        default=0.0015, metadata={"help": "distance from the most frequent class's accuracy at which it ends"}
    )
    warm_start: bool = field(default=False, metadata={"help": "start from the directions of the class means"})
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
        "rank": 2,
        "steps": 1500,
        "check_every": 500,
        "warm_start": True,
        "whitening": 0.01,
        "offset": "others",
    },
}


def rlace(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """One state edit for all concepts."""
    rows = LabelledStates.of(model, concepts, templates=config.num_templates, places=config.positions)
    run.progress.start("minimax", config.steps, 0)
    try:
        eraser = RlaceEraser(
            config.rank * len(concepts), steps=config.steps, lr=config.learning_rate, decay=config.weight_decay, batch=config.batch_size, check=config.check_every,
            tolerance=config.tolerance, warm_start=config.warm_start, seed=run.seed_for("minimax"),
            progress=lambda done, accuracy: run.progress.update(done, {"accuracy": accuracy}),
        )  # fmt: skip
        matrix = rows.projection(eraser, config.whitening)
    finally:
        run.progress.stop()
    edit, tensors = state_edit(matrix, rows.offset(config.offset))
    return run.erasure([edit], tensors)
