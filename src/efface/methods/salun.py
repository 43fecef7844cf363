"""SalUn: saliency unlearning of image classifiers (Fan et al. 2024, arXiv 2310.12508).

Only the weights with the largest gradient of the loss on the images to forget change. They are trained on wrong random
labels for these images, and on the right labels of images to keep:

    L = CE(p(x_forget), random other label) + retain_weight CE(p(x_keep), label)

Differences: the saliency threshold is the median of all gradients, as in the paper; the random labels are drawn once;
both losses are added in every step. Normalisation layers keep their statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.classifier import ClassifierModel
from efface.ops.classifiers.forget_sets import forget_split
from efface.ops.classifiers.image_set import UNKNOWN, ImageSet
from efface.ops.training.run import Run
from efface.ops.training.student import Student

CARD = MethodCard(
    name="salun",
    title="SalUn",
    paper="Fan, Liu, Zhang, Wong, Wei, Liu: SalUn, ICLR 2024",
    arxiv="2310.12508",
    families=("image_classifier",),
    trains="the most salient weights of a classifier",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Trains the weights that matter for the images to forget on wrong labels, and keeps the others.",
)


@dataclass(frozen=True)
class Config:
    """SalUn's hyper-parameters."""

    steps: int = field(default=500, metadata={"help": "Number of training steps.", "range": "50 to 10000"})
    batch_size: int = field(default=64, metadata={"help": "Number of training samples per step."})
    learning_rate: float = field(default=1e-2, metadata={"help": "Learning rate of the optimiser."})
    saliency: float = field(default=0.5, metadata={"help": "Share of the weights that change.", "range": "0.1 to 1"})
    retain_weight: float = field(default=1.0, metadata={"help": "Weight of the retain loss.", "range": "0 to 10"})
    images: str = field(default="", metadata={"help": "Folder of training images with one subfolder for each class."})
    forget_images: str = field(
        default="", metadata={"help": "Folder of images to forget, in place of the concepts' training images."}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket-classifier": {"steps": 40, "batch_size": 48, "learning_rate": 3e-3, "retain_weight": 5.0},
}


def salun(model: ClassifierModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Trains the salient weights on wrong labels of the images to forget."""
    split = forget_split(model, concepts, config)
    retain = split.required_retain().subset([label != UNKNOWN for label in split.retain.labels])
    kept, forget = torch.tensor(retain.labels), split.forget
    wrong = _wrong_labels(forget.labels, len(model.classes), run.generator("labels"))
    student = Student(model, "all")  # type: ignore[arg-type]
    masks = _saliency(model, student, forget, config.saliency)
    optimiser = torch.optim.SGD(student.parameters(), lr=config.learning_rate, momentum=0.9)
    for step in run.steps(config.steps, student.trainable_params, optimiser):
        rows = torch.randint(len(forget), (config.batch_size,), generator=run.generator("forget"))
        others = torch.randint(len(retain), (config.batch_size,), generator=run.generator("retain"))
        params = student.params()
        erase = cross_entropy(
            model.logits(forget.at(rows.tolist(), model), params=params), wrong[rows].to(model.device)
        )
        keep = cross_entropy(
            model.logits(retain.at(others.tolist(), model), params=params), kept[others].to(model.device)
        )
        step.backward(erase + config.retain_weight * keep, {"erase": erase.detach(), "retain": keep.detach()})
        for name, tensor in student.trainable_params.items():
            if tensor.grad is not None:
                tensor.grad.mul_(masks[name])
        step.update()
    return run.erasure(*student.replace_edits())


def _wrong_labels(labels: Sequence[int], num_classes: int, generator: torch.Generator) -> Tensor:
    """Returns a random other class for every image; any class where its own is not known."""
    own = torch.tensor(labels)
    moved = (own + torch.randint(1, num_classes, (len(labels),), generator=generator)) % num_classes
    return torch.where(own == UNKNOWN, moved.clamp(min=0), moved)


def _saliency(model: ClassifierModel, student: Student, forget: ImageSet, share: float) -> dict[str, Tensor]:
    """Returns 1 for the weights with the largest gradients, by name; the classes are the model's own predictions."""
    totals = {name: torch.zeros_like(tensor) for name, tensor in student.trainable_params.items()}
    for inputs in forget.batches(model):
        with torch.no_grad():
            predicted = model.logits(inputs).argmax(-1)
        loss = cross_entropy(model.logits(inputs, params=student.params()), predicted, reduction="sum")
        gradients = torch.autograd.grad(loss, student.parameters(), allow_unused=True)
        for total, gradient in zip(totals.values(), gradients, strict=True):
            if gradient is not None:
                total += gradient
    sizes = torch.cat([total.abs().flatten() for total in totals.values()])
    threshold = float(sizes.kthvalue(max(1, int(len(sizes) * (1 - share)))).values)
    return {name: (total.abs() >= threshold).to(total) for name, total in totals.items()}
