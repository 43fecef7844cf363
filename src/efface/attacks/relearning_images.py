"""Relearning of a classifier: the erased model is trained on a few forgotten images, and tested on others.

A model that has forgotten needs as many steps as one that was never trained on the class (Golatkar, Achille, Soatto,
arXiv 1911.04933); one that only hides it needs
few. The attacker has some training images of the concept and some of other classes, and trains all weights. The score
is the accuracy on the concept's test images after ``steps`` steps, few enough that a retrained model fails. Training
goes on for the count of relearning steps: the first step with half of the original model's accuracy, on up to 64 test
images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch
from torch.nn.functional import cross_entropy

from efface.core.attack_set import AttackPrompt, AttackSet, Budget
from efface.core.concept import Concept
from efface.core.method_card import MethodCard
from efface.models.classifier import ClassifierModel
from efface.ops.classifiers.relearn_task import RelearnTask
from efface.ops.editing.written_weights import written_weights
from efface.ops.training.run import Run
from efface.ops.training.student import Student

CARD = MethodCard(
    name="relearning_images",
    title="Relearning (images)",
    paper="Golatkar, Achille, Soatto: Eternal Sunshine of the Spotless Net, CVPR 2020 (relearn time)",
    arxiv="1911.04933",
    families=("image_classifier",),
    trains="",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Trains the erased classifier on a few forgotten images and tests it on others.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the attack."""

    steps: int = field(default=5, metadata={"help": "Number of training steps.", "range": "1 to 500"})
    watched_steps: int = field(
        default=20, metadata={"help": "Number of steps in which the class can count as relearned."}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate of the optimiser."})
    batch_size: int = field(default=16, metadata={"help": "Number of training samples per step."})
    num_images: int = field(default=10, metadata={"help": "Number of forgotten images that the attacker has."})


WATCHED = 64
"""Largest number of test images that are classified after every step."""
PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def relearning_images(
    model: ClassifierModel, concept: Concept, task: RelearnTask, config: Config, run: Run
) -> AttackSet:
    """Returns one row for every test image of the concept."""
    rows = [AttackPrompt(text, text, 0) for text in task.names(concept.name)]
    return AttackSet(
        "relearning_images", concept, tuple(rows), asdict(config), Budget(config.steps, 0.0), seed=run.seed
    )


@contextmanager
def changed_model(
    model: ClassifierModel, concept: Concept, task: RelearnTask, config: Config, run: Run
) -> Iterator[None]:
    """Trains all weights for the body of a ``with``; half of each batch shows the concept."""
    known, others = task.seen.limited(config.num_images), task.retain
    watched = task.unseen.limited(WATCHED)
    test, right = watched.inputs(model), torch.tensor(watched.labels)
    inputs, half = known.inputs(model), max(1, config.batch_size // 2)
    labels = torch.tensor(known.labels)
    student = Student(model, "all")  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.learning_rate, weight_decay=0.0)
    accuracy = []
    kept_params, total = student.params(), max(config.steps, config.watched_steps)
    for step in run.steps(total, student.trainable_params, optimiser, phase="relearning"):
        rows = torch.randint(len(known), (half,), generator=run.generator("seen"))
        images, targets = inputs[rows], labels[rows]
        if len(others):
            kept = torch.randint(len(others), (half,), generator=run.generator("retain"))
            images = torch.cat([images, others.at(kept.tolist(), model)])
            targets = torch.cat([targets, torch.tensor(others.labels)[kept]])
        step.optimize(cross_entropy(model.logits(images, params=student.params()), targets.to(model.device)))
        with torch.no_grad():
            predicted = model.logits(test, params=student.params()).argmax(-1).cpu()
        accuracy.append(float((predicted == right).float().mean()))
        if step.index + 1 == config.steps:
            kept_params = {name: tensor.detach().clone() for name, tensor in student.params().items()}
    run.notes["accuracy_by_step"] = accuracy
    with written_weights(model, kept_params):
        yield
