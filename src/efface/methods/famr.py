"""FAMR: forget-aligned model reconstruction of image classifiers (arXiv 2506.14515).

The predictions on images F to forget are pushed to a uniform distribution U, and the parameters are anchored to their
original values:

    min  1/|F| sum_{x in F} CE(U, p_theta(x)) + rho/2 ||theta - theta_0||^2

The stationary point is ``theta_0 - (1/rho) grad L(theta)``; one Newton step from theta_0 is the influence function's
estimate ``theta_0 - (H + rho)^-1 grad L(theta_0)``. With features fixed the problem of the last layer is convex and
solved by Newton steps; the whole network by L-BFGS or SGD. ``||theta - theta_0|| <= sqrt(2 (L(theta_0) - log C)/rho)``
bounds the change; the last layer's bound is the smaller of this and one by stationarity, and bounds every output.
The erasure records the bounds beside the measured deviations.

Differences: written from the paper's abstract, without its code; optimiser, rho and steps are ours. ``anchor=features``
weights the anchor by the features of images to keep, and ``target=others`` leaves the forgotten classes out of U.
Normalisation layers keep their statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.manifest import CLASSIFIER_COMPONENT
from efface.core.method_card import MethodCard
from efface.models.classifier import ClassifierModel
from efface.models.tensor_names import canonical_name
from efface.ops.classifiers.anchored_descent import (
    check_descent,
    descend_lbfgs,
    descend_sgd,
    full_loss,
    squared_distance,
)
from efface.ops.classifiers.bounds import ParameterBound, loss_bound
from efface.ops.classifiers.forget_sets import ForgetSplit, forget_split
from efface.ops.classifiers.forgetting_loss import target_distribution
from efface.ops.classifiers.image_set import UNKNOWN, ImageSet
from efface.ops.classifiers.last_layer import MAX_CHECKED, Outputs, anchor_metric, solve
from efface.ops.tensor_conversion import to_blob
from efface.ops.training.run import Run
from efface.ops.training.student import Student

CARD = MethodCard(
    name="famr",
    title="FAMR",
    paper="Forget-Aligned Model Reconstruction, 2025",
    arxiv="2506.14515",
    families=("image_classifier",),
    trains="the last layer, or all weights, of a classifier",
    needs_gradient=False,
    needs_images=True,
    reconstruction=True,
    summary="Pushes predictions on the images to forget to uniform and anchors the weights, with a proven bound.",
)
SOLVERS, ANCHORS = ("newton", "lbfgs", "sgd"), ("l2", "features")


@dataclass(frozen=True)
class Config:
    """FAMR's hyper-parameters; the abstract states none, so that the defaults are ours."""

    target_modules: str = field(
        default="last_layer", metadata={"help": "Parameter group to change.", "range": "last_layer, all"}
    )
    solver: str = field(
        default="newton", metadata={"help": "Solver: newton (last_layer only), lbfgs, or sgd for large image sets."}
    )
    rho: float = field(default=1e-3, metadata={"help": "Weight of the anchor.", "range": "1e-5 to 1"})
    target: str = field(default="uniform", metadata={"help": "Target: uniform, or others (the classes that are kept)."})
    anchor: str = field(
        default="l2", metadata={"help": "Anchor: l2 (the paper's), or features, weighted by images to keep (newton)."}
    )
    anchor_weight: float = field(
        default=100.0, metadata={"help": "Weight of the features in anchor=features.", "range": "0 to 10000"}
    )
    steps: int = field(default=100, metadata={"help": "Number of training steps.", "range": "1 to 5000"})
    learning_rate: float = field(default=1e-2, metadata={"help": "Learning rate of the optimiser."})
    batch_size: int = field(default=64, metadata={"help": "Number of training samples per step."})
    images: str = field(default="", metadata={"help": "Folder of training images with one subfolder for each class."})
    forget_images: str = field(
        default="", metadata={"help": "Folder of images to forget, in place of the concepts' training images."}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket-classifier": {"anchor": "features", "target": "others", "rho": 3e-4},
}


def famr(model: ClassifierModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases classes, styles or single images from a classifier."""
    _check(config)
    split = forget_split(model, concepts, config)
    forgotten = sorted({label for label in split.forget.labels if label != UNKNOWN})
    is_class = all(concept.kind not in ("style", "samples") for concept in concepts) and not config.forget_images
    target = target_distribution(config.target, len(model.classes), forgotten if is_class else ())
    if config.solver == "newton":
        return _last_layer(model, split, target, config, run)
    return _descend(model, split.forget, target, config, run)


def _last_layer(model: ClassifierModel, split: ForgetSplit, target: Tensor, config: Config, run: Run) -> Erasure:
    """Solves the convex problem of the last layer."""
    forget = Outputs.of(model, split.forget)
    features = None
    checked = forget
    if config.anchor == "features":
        checked = Outputs.of(model, split.required_retain().limited(MAX_CHECKED))
        features = checked.features
    metric = anchor_metric(features, config.anchor_weight, forget.features.shape[1])
    solution = solve(forget, checked, target, config.rho, config.steps, metric)
    run.notes |= solution.notes()
    run.record("newton", {"loss_before": solution.newton.loss_before, "loss": solution.newton.loss_after})
    layer, start = model.last_layer, f"{model.last_layer_name}."
    width = layer.in_features
    tensors = {f"{start}weight": layer.weight.double().cpu() + solution.delta[:, :width]}
    if layer.bias is not None:
        tensors[f"{start}bias"] = layer.bias.double().cpu() + solution.delta[:, width]
    names = {canonical_name(path): f"{CLASSIFIER_COMPONENT}.{canonical_name(path)}" for path in tensors}
    blobs = {f"{CLASSIFIER_COMPONENT}.{canonical_name(path)}": to_blob(t.float()) for path, t in tensors.items()}
    return run.erasure([Edit(CLASSIFIER_COMPONENT, "replace", names)], blobs)


def _descend(model: ClassifierModel, forget: ImageSet, target: Tensor, config: Config, run: Run) -> Erasure:
    """Minimises the objective of the chosen parameters by L-BFGS or SGD."""
    inputs, student = forget.inputs(model), Student(model, config.target_modules)  # type: ignore[arg-type]
    with torch.no_grad():
        before = float(full_loss(model, inputs, target, student.params()).detach())
    if config.solver == "lbfgs":
        descend_lbfgs(model, student, inputs, target, config.rho, config.steps, run)
    else:
        descend_sgd(
            model, student, inputs, target, config.rho, steps=config.steps, batch_size=config.batch_size,
            learning_rate=config.learning_rate, run=run,
        )  # fmt: skip
    with torch.no_grad():
        after, distance = float(full_loss(model, inputs, target, student.params())), squared_distance(student)
    check_descent(before, after + config.rho / 2 * float(distance), config.target)
    bound = loss_bound(before, target, config.rho)
    notes: dict[str, Any] = {"parameters": ParameterBound(float(distance.sqrt()), bound, bound, None).to_dict()}
    run.notes |= {"bounds": notes}
    return run.erasure(*student.replace_edits())


def _check(config: Config) -> None:
    """Checks the settings that exclude each other.

    Raises:
        EffaceError: an unknown solver or anchor, or two settings that do not go together.
    """
    for name, value, known in (("solver", config.solver, SOLVERS), ("anchor", config.anchor, ANCHORS)):
        if value not in known:
            raise EffaceError(f"{name} {value!r} is unknown: set {name} to {', '.join(known)}")
    if config.rho <= 0:
        raise EffaceError(f"rho {config.rho:g} anchors nothing, and no bound holds: set rho above 0")
    if config.solver == "newton" and config.target_modules != "last_layer":
        raise EffaceError("solver newton solves the last layer alone: set solver=lbfgs or sgd for all weights")
    if config.anchor == "features" and config.solver != "newton":
        raise EffaceError("anchor=features belongs to the last layer: set solver=newton, or anchor=l2")
