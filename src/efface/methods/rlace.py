"""R-LACE: relaxed linear adversarial concept erasure (Ravfogel et al., ICML 2022, arXiv 2201.12091).

R-LACE plays a minimax game on the text encoder's states h: a linear classifier (theta, b) predicts the concept from
the projected states, and the projection maximises the classifier's loss:

    max over P in F_k    min over theta, b    E loss( z, theta^T (I - P) h + b ),        F_k = { 0 <= P <= I, tr P = k }

by alternating gradient steps. P* is the projection on the k largest eigenvectors of the resulting P, and
H <- (I - P*) (H - c) + c edits the states H of every prompt. k is ``rank`` for each concept. The labels z and the
centering are INLP's: a class for each word of the concept and each position kind, and one for other prompts, minus the
other prompts' mean at each position kind.

Differences: two classes are two logits, which move at half the learning rate, so that their difference is the published
classifier's one logit; the bias has no weight decay. ``rescale`` is ours: the learning rate then means the same at
every scale of the states. A step on P needs no eigendecomposition of all D dimensions, and the Fantope's threshold is
exact instead of bisected (`efface.ops.linear_erasure.fantope`). Every check fits a new softmax regression by L-BFGS.
``warm_start`` starts from the directions of the class means instead of a random P; a rank that contains all of them
ends the game at the first check. ``whitening`` and ``offset`` are ours and spare other prompts, as in INLP.
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
    trains="a projection of the text encoder's states, against a linear classifier",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Trains a rank-k projection of the text encoder's states against a linear classifier of the concept.",
)


@dataclass(frozen=True)
class Config:
    """R-LACE's settings; the defaults are the paper's."""

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
    rank: int = field(default=1, metadata={"help": "Number of dimensions to remove per concept.", "range": "1 to 100"})
    steps: int = field(default=75_000, metadata={"help": "Number of training steps.", "range": "500 to 75000"})
    learning_rate: float = field(default=0.005, metadata={"help": "Learning rate of the optimiser."})
    weight_decay: float = field(default=1e-4, metadata={"help": "Weight decay of both players."})
    batch_size: int = field(default=128, metadata={"help": "Number of training samples per step."})
    check_every: int = field(default=1000, metadata={"help": "Number of steps between newly fitted classifiers."})
    tolerance: float = field(
        default=0.0015, metadata={"help": "Accuracy above the most frequent class's share at which the game ends."}
    )
    rescale: bool = field(default=False, metadata={"help": "Divide the states by their root mean square in the game."})
    warm_start: bool = field(default=False, metadata={"help": "Start from the directions of the class means."})
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
        "rank": 2,
        "steps": 1500,
        "check_every": 500,
        "rescale": True,
        "warm_start": True,
        "whitening": 0.01,
        "offset": "others",
    },
}


def rlace(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Fits one state edit for all concepts."""
    states = LabelledStates.from_concepts(
        model, concepts, num_templates=config.num_templates, positions=config.positions
    )
    eraser = RlaceEraser(
        config.rank * len(concepts),
        steps=config.steps,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        batch_size=config.batch_size,
        check_every=config.check_every,
        tolerance=config.tolerance,
        rescale=config.rescale,
        warm_start=config.warm_start,
        seed=run.seed_for("minimax"),
        progress=lambda completed, accuracy: run.progress.update(completed, {"accuracy": accuracy}),
    )
    run.progress.start("minimax", config.steps, 0)
    try:
        matrix = states.projection(eraser, config.whitening)
    finally:
        run.progress.stop()
    edit, tensors = state_edit(matrix, states.offset(config.offset))
    return run.erasure([edit], tensors)
