"""Trains a classifier's module on an image set: from scratch, as retraining does, or from its present weights."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from efface.core.edits import Edit
from efface.core.errors import EffaceError
from efface.core.manifest import CLASSIFIER_COMPONENT
from efface.core.tensors import TensorBlob
from efface.models.classifier import ClassifierModel
from efface.models.tensor_names import canonical_name, editable_tensors
from efface.ops.tensor_conversion import to_blob
from efface.ops.training.run import Run

WARM_UP_SHARE, LAST_RATE = 0.1, 0.01


@dataclass(frozen=True)
class Recipe:
    """How a module is trained: AdamW with linear warm-up and linear decay, on randomly shifted images.

    Attributes:
        steps: number of steps.
        batch_size: number of images of a step.
        learning_rate: highest learning rate.
        weight_decay: of AdamW.
        shift: largest shift of an image in pixels.
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    shift: int


@runtime_checkable
class _Resettable(Protocol):
    def reset_parameters(self) -> None:
        """Draws new parameters."""
        ...


def reinitialised(module: nn.Module, seed: int) -> nn.Module:
    """Returns a copy with new random parameters and fresh running statistics.

    Raises:
        EffaceError: parameters of a submodule that cannot reset them.
    """
    copy = deepcopy(module)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, child in copy.named_modules():
            if isinstance(child, _Resettable):
                child.reset_parameters()
            elif next(child.parameters(recurse=False), None) is not None:
                raise EffaceError(f"{name} has parameters and no reset_parameters(): it cannot be trained from scratch")
    return copy.requires_grad_(True)


def fit(
    module: nn.Module, model: ClassifierModel, inputs: Tensor, labels: Tensor, recipe: Recipe, run: Run, phase: str
) -> None:
    """Trains a module in place; a resumed run continues from its checkpoint.

    Args:
        module: the module, of the shape of the model's.
        model: the model, for the form of its output.
        inputs: preprocessed images, ``(N, 3, H, W)``.
        labels: their classes, ``(N,)``.
        recipe: optimiser and steps.
        run: the run.
        phase: name of the loop.
    """
    module.train().requires_grad_(True)
    parameters = dict(module.named_parameters())
    optimiser = torch.optim.AdamW(parameters.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = run.steps(recipe.steps, parameters, optimiser, phase=phase, extra_state={"buffers": _Buffers(module)})
    generator = run.generator(phase)
    for step in steps:
        for group in optimiser.param_groups:
            group["lr"] = _learning_rate(step.index, recipe)
        rows = torch.randint(len(labels), (recipe.batch_size,), generator=generator)
        output = module(shifted(inputs[rows], recipe.shift, generator))
        loss = cross_entropy(getattr(output, "logits", output), labels[rows].to(model.device))
        step.optimize(loss)
    module.eval().requires_grad_(False)


def replaced_state(module: nn.Module) -> tuple[list[Edit], dict[str, TensorBlob]]:
    """Returns the ``replace`` edit that turns the original module into this one, running statistics included."""
    blobs, names = {}, {}
    for path, tensor in editable_tensors(module).items():
        name = canonical_name(path)
        names[name] = f"{CLASSIFIER_COMPONENT}.{name}"
        blobs[names[name]] = to_blob(tensor.detach().float())
    return [Edit(CLASSIFIER_COMPONENT, "replace", names)], blobs


def shifted(images: Tensor, largest: int, generator: torch.Generator) -> Tensor:
    """Returns images that are shifted by up to ``largest`` pixels, each by its own; edges are repeated."""
    if not largest:
        return images
    height, width = images.shape[-2:]
    padded = pad(images, (largest,) * 4, mode="replicate")
    moves = torch.randint(2 * largest + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, moves, strict=True)])


def _learning_rate(step: int, recipe: Recipe) -> float:
    """Returns the rate: linear warm-up in a tenth of the steps, then linear decay to a hundredth."""
    share = step / recipe.steps
    if share < WARM_UP_SHARE:
        return recipe.learning_rate * max(share / WARM_UP_SHARE, LAST_RATE)
    return recipe.learning_rate * max((1 - share) / (1 - WARM_UP_SHARE), LAST_RATE)


class _Buffers:
    """The running statistics of a module, for checkpoints."""

    def __init__(self, module: nn.Module) -> None:
        self.buffers = {name: tensor for name, tensor in module.named_buffers() if tensor.is_floating_point()}

    def state(self) -> dict[str, Tensor]:
        """Returns the statistics by name."""
        return dict(self.buffers)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores the statistics."""
        for name, tensor in state.items():
            self.buffers[name].copy_(tensor)
