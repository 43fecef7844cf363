"""Retraining: the classifier is trained from scratch without the images to forget.

The gold standard of forgetting (Bourtoule et al., arXiv 1912.03817): the other methods for classifiers try to reach its
predictions in less time. New random parameters are drawn and trained on all other images with AdamW, linear warm-up and
decay, and random shifts. The preset of pocket-classifier is the recipe that it was trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.classifier import ClassifierModel
from efface.ops.classifiers.fitting import Recipe, fit, reinitialised, replaced_state
from efface.ops.classifiers.forget_sets import forget_split
from efface.ops.classifiers.image_set import UNKNOWN
from efface.ops.training.run import Run

CARD = MethodCard(
    name="retrain",
    title="Retraining",
    paper="Bourtoule et al.: Machine Unlearning, S&P 2021",
    arxiv="1912.03817",
    families=("image_classifier",),
    trains="all weights of a classifier, from scratch",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Trains the classifier from scratch without the images to forget: the gold standard.",
)


@dataclass(frozen=True)
class Config:
    """The recipe."""

    steps: int = field(default=20_000, metadata={"help": "Number of training steps.", "range": "100 to 1000000"})
    batch_size: int = field(default=128, metadata={"help": "Number of training samples per step."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate of the optimiser."})
    weight_decay: float = field(default=0.02, metadata={"help": "Weight decay."})
    shift: int = field(default=4, metadata={"help": "Largest random shift of an image in pixels."})
    images: str = field(default="", metadata={"help": "Folder of training images with one subfolder for each class."})
    forget_images: str = field(
        default="", metadata={"help": "Folder of images to forget, in place of the concepts' training images."}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket-classifier": {"steps": 1200, "batch_size": 48, "learning_rate": 4e-3},
}


def retrain(model: ClassifierModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Trains a new classifier without the images to forget."""
    retain = forget_split(model, concepts, config).required_retain()
    known = retain.subset([label != UNKNOWN for label in retain.labels])
    module = reinitialised(model.module, run.seed_for("retrain"))
    recipe = Recipe(config.steps, config.batch_size, config.learning_rate, config.weight_decay, config.shift)
    fit(module, model, known.inputs(model), torch.tensor(known.labels), recipe, run, "train")
    return run.erasure(*replaced_state(module))
