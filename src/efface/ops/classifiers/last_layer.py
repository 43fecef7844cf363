"""FAMR of the last layer: the anchor's metric, the Newton solution, and its bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from efface.models.classifier import ClassifierModel

from .anchored_newton import NewtonSolution, solve_last_layer
from .bounds import OutputBound, ParameterBound, gradient_bound, loss_bound, output_bound
from .image_set import ImageSet

MAX_CHECKED = 512
"""Largest number of images on which the bound is checked."""


@dataclass(frozen=True)
class Outputs:
    """Features with a 1 for the bias, ``(n, d)``, and logits, ``(n, C)``, of images; both float64 on the CPU."""

    features: Tensor
    logits: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: ClassifierModel, images: ImageSet) -> Outputs:
        """Runs the model once on every image."""
        features, logits = [], []
        for batch in images.batches(model):
            part = model.features(batch)
            features.append(part.cpu().double())
            logits.append(model.last_layer(part).cpu().double())
        joined = torch.cat(features)
        ones = joined.new_ones(len(joined), 1 if model.last_layer.bias is not None else 0)
        return cls(torch.cat([joined, ones], 1), torch.cat(logits))


@dataclass(frozen=True)
class LastLayerSolution:
    """The solution in the layer's own coordinates, and what was proven about it.

    Attributes:
        delta: change of weight and bias, ``(C, d)``, the bias in the last column.
        newton: the solution in the anchor's metric.
        parameters: bound on the parameters.
        outputs: bound on the logits.
    """

    delta: Tensor
    newton: NewtonSolution
    parameters: ParameterBound
    outputs: OutputBound

    def notes(self) -> dict[str, Any]:
        """Returns the bounds and the influence estimate as JSON values."""
        newton, final = self.newton, self.newton.delta
        distance = float((newton.influence - final).norm() / final.norm().clamp(min=1e-300))
        cosine = float(cosine_similarity(newton.influence.flatten(), final.flatten(), dim=0))
        influence = {"relative_distance_to_optimum": distance, "cosine_with_optimum": cosine}
        bounds = {"parameters": self.parameters.to_dict(), "logits": self.outputs.to_dict()}
        return {"bounds": bounds, "influence": influence, "newton_steps": newton.steps}


def anchor_metric(features: Tensor | None, weight: float, width: int) -> Tensor:
    """Returns the lower triangular L of the anchor's metric ``M = L L^T``, ``(d, d)``.

    ``M = I + weight Sigma`` with the second moment Sigma of the features of images to keep, scaled to mean diagonal 1:
    directions that these images use cost more. Without features M is the identity, the paper's anchor.
    """
    metric = torch.eye(width, dtype=torch.float64)
    if features is not None:
        moment = features.T @ features
        metric = metric + weight * moment / moment.diagonal().mean()
    return torch.linalg.cholesky(metric)


def solve(
    forget: Outputs, checked: Outputs, target: Tensor, rho: float, max_steps: int, metric: Tensor
) -> LastLayerSolution:
    """Solves the anchored problem and checks the bounds.

    Args:
        forget: outputs of the images to forget.
        checked: outputs of the images on which the bound is checked.
        target: target distribution, ``(C,)``.
        rho: weight of the anchor.
        max_steps: largest number of Newton steps.
        metric: L of the anchor's metric.
    """
    inputs, others = (_in_metric(item.features, metric) for item in (forget, checked))
    newton = solve_last_layer(forget.logits, inputs, target, rho, max_steps)
    from_loss = loss_bound(newton.loss_before, target, rho)
    from_gradient = gradient_bound(inputs, target, rho, newton.gradient_norm)
    bound = min(from_loss, from_gradient)
    parameters = ParameterBound(float(newton.delta.norm()), bound, from_loss, from_gradient)
    delta = torch.linalg.solve_triangular(metric, newton.delta, upper=False, left=False)
    outputs = output_bound(checked.logits, checked.logits + checked.features @ delta.T, others, bound)
    return LastLayerSolution(delta, newton, parameters, outputs)


def _in_metric(features: Tensor, metric: Tensor) -> Tensor:
    """Returns features x' with ``(D L) x' = D x``."""
    return torch.linalg.solve_triangular(metric, features.T, upper=False).T
