"""Scores an attack on a classifier: how often does it bring the right class back?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from efface.core.attack_set import AttackSet
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.result import Score
from efface.core.score import Provenance
from efface.models.classifier import ClassifierModel
from efface.ops.classifiers.image_set import UNKNOWN, ImageSet
from efface.ops.classifiers.predictions import Predictions, predict
from efface.ops.classifiers.relearn_task import RelearnTask
from efface.ops.editing.apply import applied
from efface.ops.training.progress import Progress, Silent
from efface.ops.training.run import Run

from .benchmark import ClassifierBenchmark
from .evaluation import TOP1
from .groups import NAME, SEEN, benchmark_images

CHANGE = "changed_model"
"""Name of an attack module's context manager that changes the model's weights while images are classified."""
RECOVERED = 0.5
"""Share of the original model's accuracy from which the concept counts as relearned."""


@dataclass(frozen=True)
class ClassifierAttack:
    """An attack and the predictions under it.

    Attributes:
        attack_set: the attack.
        benchmark: the benchmark whose images it classifies.
        original: predictions of the base model on the concept's test images.
        plain: predictions of the erased model.
        attacked: predictions under the attack.
        accuracy_by_step: accuracy on the same images after every step of the attack.
        has_other_base: whether the model is not the erasure's base.
        classes: names of the model's classes.
    """

    attack_set: AttackSet
    benchmark: ClassifierBenchmark
    original: Predictions
    plain: Predictions
    attacked: Predictions
    accuracy_by_step: Sequence[float]
    has_other_base: bool
    classes: Sequence[str]

    def scores(self, label: str) -> tuple[Score, ...]:
        """Returns the share of right predictions without and with the attack, and the steps until half is relearned.

        The number of steps is one more than was watched where half of the original accuracy was never reached.
        """
        n = len(self.plain)
        source = Provenance(extra=self.attack_set.proof(self.attack_set.erasure_hash, self.benchmark.hash, n))
        rates = [
            Score.rate(metric, label, item.num_right, n, TOP1, source)
            for metric, item in (("asr_pre", self.plain), ("asr_post", self.attacked))
        ]
        goal = RECOVERED * self.original.num_right / n
        reached = (i for i, value in enumerate(self.accuracy_by_step, 1) if value >= goal)
        steps = float(next(reached, len(self.accuracy_by_step) + 1))
        return (*rates, Score("relearning_steps", label, steps, None, None, n, TOP1, source))

    def rows(self, label: str) -> list[dict[str, Any]]:
        """Returns some images with their predictions without and with the attack."""
        return self.plain.rows(self.attacked, label, self.classes)


def attack_classifier(
    model: ClassifierModel, erasure: Erasure, benchmark: ClassifierBenchmark, function: Any, config: Any, *,
    seed: int = 0, limit: int | None = None, allow_base_mismatch: bool = False, progress: Progress | None = None,
) -> ClassifierAttack:  # fmt: skip
    """Runs an attack on the erased classifier.

    Args:
        model: the base model.
        erasure: the erasure.
        benchmark: source of the images.
        function: a registered attack for classifiers.
        config: its configuration.
        seed: root seed.
        limit: largest number of test images.
        allow_base_mismatch: accept a base model other than the erasure's own.
        progress: progress display.

    Raises:
        EffaceError: the classes of the concept's training images are not known.
    """
    images = benchmark_images(benchmark, model)
    task = _task(images.groups[NAME], images.groups[SEEN], images.retain, benchmark.name, limit)
    used_limit = len(task.unseen) if len(task.unseen) < len(images.groups[NAME]) else None
    concept: Concept = next((c for c in erasure.concepts if c.name == benchmark.concept.name), benchmark.concept)
    run = Run(seed=seed, device=model.device, progress=progress or Silent())
    original = predict(model, task.unseen)
    with applied(model, erasure, allow_base_mismatch) as record:
        attack_set: AttackSet = function(model, concept, task, config, run)
        plain = predict(model, task.unseen)
        change = getattr(sys.modules[function.__module__], CHANGE)
        with change(model, concept, task, config, run):
            attacked = predict(model, task.unseen)
    found = replace(attack_set, limit=used_limit, erasure_hash=erasure.spec.hash, base_fingerprint=record.base)
    steps = run.notes.get("accuracy_by_step", [])
    return ClassifierAttack(found, benchmark, original, plain, attacked, steps, record.base_mismatch, model.classes)


def _task(unseen: ImageSet, seen: ImageSet, retain: ImageSet, name: str, limit: int | None) -> RelearnTask:
    """Keeps the images with known classes."""
    sets = [images.subset([label != UNKNOWN for label in images.labels]) for images in (seen, unseen, retain)]
    if not len(sets[0]) or not len(sets[1]):
        raise EffaceError(f"{name} does not state the classes of the concept's images: put them in folders of a class")
    return RelearnTask(sets[0], sets[1].limited(limit), sets[2])
