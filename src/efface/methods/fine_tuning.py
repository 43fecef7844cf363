"""Fine-tuning: the classifier is trained further on the images to keep, so that it forgets the others on its own.

The simplest baseline of unlearning in classifiers (Golatkar, Achille, Soatto, arXiv 1911.04933); it forgets little, as
far as the images to keep do not contradict what was learned. Normalisation layers keep their statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn.functional import cross_entropy

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.classifier import ClassifierModel
from efface.ops.classifiers.forget_sets import forget_split
from efface.ops.classifiers.image_set import UNKNOWN
from efface.ops.training.run import Run
from efface.ops.training.student import Student

CARD = MethodCard(
    name="fine_tuning",
    title="Fine-tuning",
    paper="Golatkar, Achille, Soatto: Eternal Sunshine of the Spotless Net, CVPR 2020 (baseline)",
    arxiv="1911.04933",
    families=("image_classifier",),
    trains="all weights of a classifier",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Trains the classifier further on the images to keep.",
)


@dataclass(frozen=True)
class Config:
    """The settings of the baseline."""

    steps: int = field(default=500, metadata={"help": "Number of training steps.", "range": "50 to 10000"})
    batch_size: int = field(default=64, metadata={"help": "Number of training samples per step."})
    learning_rate: float = field(default=1e-2, metadata={"help": "Learning rate of the optimiser."})
    target_modules: str = field(
        default="all", metadata={"help": "Parameter group to change.", "range": "all, features, last_layer"}
    )
    images: str = field(default="", metadata={"help": "Folder of training images with one subfolder for each class."})
    forget_images: str = field(
        default="", metadata={"help": "Folder of images to forget, in place of the concepts' training images."}
    )


PRESETS: dict[str, dict[str, object]] = {"paper": {}, "pocket-classifier": {"steps": 60, "batch_size": 48}}


def fine_tuning(model: ClassifierModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Trains the classifier on the images to keep."""
    retain = forget_split(model, concepts, config).required_retain()
    known = retain.subset([label != UNKNOWN for label in retain.labels])
    labels = torch.tensor(known.labels)
    student = Student(model, config.target_modules)  # type: ignore[arg-type]
    optimiser = torch.optim.SGD(student.parameters(), lr=config.learning_rate, momentum=0.9)
    for step in run.steps(config.steps, student.trainable_params, optimiser):
        rows = torch.randint(len(known), (config.batch_size,), generator=run.generator("images"))
        logits = model.logits(known.at(rows.tolist(), model), params=student.params())
        step.optimize(cross_entropy(logits, labels[rows].to(model.device)))
    return run.erasure(*student.replace_edits())
