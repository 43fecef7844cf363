"""The anchored forget problem of any parameters: full-batch L-BFGS, or SGD with proximal steps to the anchor."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.models.classifier import ClassifierModel
from efface.ops.training.run import Run
from efface.ops.training.student import Student

from .forgetting_loss import entropy, forget_loss, largest_entropy

FORGOTTEN = 0.99
"""Share of the largest entropy at which the images count as forgotten, which ends SGD early."""
CHUNK = 64


def full_loss(model: ClassifierModel, inputs: Tensor, target: Tensor, params: Mapping[str, Tensor]) -> Tensor:
    """Returns the forget loss on all images, differentiably."""
    parts = [
        forget_loss(model.logits(chunk, params=params), target) * len(chunk) / len(inputs)
        for chunk in inputs.split(CHUNK)
    ]
    return torch.stack(parts).sum()


def squared_distance(student: Student) -> Tensor:
    """Returns ``||theta - theta_0||^2``, differentiably."""
    originals = student.group.parameters
    return torch.stack([(t - originals[n].float()).square().sum() for n, t in student.trainable_params.items()]).sum()


def descend_lbfgs(
    model: ClassifierModel, student: Student, inputs: Tensor, target: Tensor, rho: float, steps: int, run: Run
) -> None:
    """Minimises the objective with L-BFGS and a line search; the student's tensors change in place."""
    optimiser = torch.optim.LBFGS(
        student.parameters(), max_iter=steps, history_size=20, line_search_fn="strong_wolfe", tolerance_grad=1e-9
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        loss = full_loss(model, inputs, target, student.params()) + rho / 2 * squared_distance(student)
        loss.backward(inputs=student.parameters())
        run.record("l-bfgs", {"loss": float(loss.detach())})
        return loss

    optimiser.step(objective)  # type: ignore[arg-type]


def descend_sgd(
    model: ClassifierModel, student: Student, inputs: Tensor, target: Tensor, rho: float, *, steps: int,
    batch_size: int, learning_rate: float, run: Run,
) -> None:  # fmt: skip
    """Minimises the objective with SGD; the anchor pulls by a proximal step, which is stable for every rho.

    Raises:
        EffaceError: the loss is not finite.
    """
    optimiser, generator = torch.optim.SGD(student.parameters(), lr=learning_rate), run.generator("forget")
    pull, limit = learning_rate * rho, FORGOTTEN * largest_entropy(len(target))
    for step in run.steps(steps, student.trainable_params, optimiser):
        rows = torch.randint(len(inputs), (min(batch_size, len(inputs)),), generator=generator)
        logits = model.logits(inputs[rows], params=student.params())
        step.optimize(forget_loss(logits, target))
        with torch.no_grad():
            for name, tensor in student.trainable_params.items():
                tensor.add_(pull * student.group.parameters[name].float()).div_(1 + pull)
            if float(entropy(logits).mean()) >= limit:
                break


def check_descent(before: float, after: float, target_name: str) -> None:
    """Checks that the objective did not rise, on which the bound rests.

    Raises:
        EffaceError: it rose.
    """
    if after > before:
        raise EffaceError(
            f"the objective rose from {before:.4g} to {after:.4g} ({target_name} target), so that no bound holds: "
            "lower learning_rate, or set solver=lbfgs"
        )
