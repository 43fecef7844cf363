"""The adapter of image classifiers: logits, the features before the last layer, and parameters by role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from efface.core.errors import EffaceError, UnknownNameError
from efface.core.manifest import CLASSIFIER_COMPONENT as COMPONENT
from efface.core.text_fields import fold_case

from .fingerprint import fingerprint
from .guidance_hooks import GuidanceEdit
from .parameter_groups import ParameterGroup, call_with_params
from .tensor_names import canonical_name

FAMILY = "image_classifier"
ROLES = ("last_layer", "features", "all")
Transform = Callable[[Image.Image], Tensor]
"""Maps an image to the input of a classifier, ``(3, H, W)``."""


class ClassifierModel:
    """An image classifier with its preprocessing.

    Args:
        module: maps images ``(B, 3, H, W)`` to logits ``(B, C)``, or to an output with the attribute ``logits``; it
            is in evaluation mode from here on.
        preprocess: maps one image to the module's input ``(3, H, W)``, such as a transform of torchvision or timm.
        classes: names of the classes in the order of the logits; the module's ``config.id2label`` if None.
        name: the model's name in results.
        processor: image processor to export beside the module.

    Raises:
        EffaceError: the module has no linear layer of its classes, or no names of classes are known.
    """

    family = FAMILY

    def __init__(
        self, module: nn.Module, preprocess: Transform, classes: Sequence[str] | None = None, name: str = "classifier",
        processor: Any = None,
    ) -> None:  # fmt: skip
        self.module, self.name, self.processor = module.eval().requires_grad_(False), name, processor
        self.transform = preprocess
        self.classes = label_names(classes if classes is not None else _own_classes(module))
        self.components: dict[str, nn.Module] = {COMPONENT: module}
        self.guidance_edits: list[GuidanceEdit] = []
        self.last_layer_name, self.last_layer = last_layer(module, len(self.classes), name)

    @property
    def device(self) -> torch.device:
        """The device that the first parameter is on."""
        return next(self.module.parameters()).device

    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """Returns the fingerprint of the module."""
        return {COMPONENT: fingerprint(self.module)}

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """Maps images to the module's input ``(B, 3, H, W)``, on its device."""
        return torch.stack([self.transform(image) for image in images]).to(self.device, self.last_layer.weight.dtype)

    def logits(self, images: Tensor, *, params: Mapping[str, Tensor] | None = None) -> Tensor:
        """Returns the logits ``(B, C)`` of preprocessed images, differentiably.

        Args:
            images: ``(B, 3, H, W)``, from `preprocess`.
            params: tensors that replace the module's own, by their own name.
        """
        output = call_with_params(self.module, params or {}, images)
        return getattr(output, "logits", output)  # type: ignore[no-any-return]

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Returns the input of the last layer, ``(B, D)``, for preprocessed images."""
        kept: list[Tensor] = []
        hook = self.last_layer.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].flatten(1)))
        try:
            self.module(images)
        finally:
            hook.remove()
        return kept[0]

    def parameter_group(self, role: str) -> ParameterGroup:
        """Returns the parameters of a role: ``last_layer``, ``features`` (all before it) or ``all``.

        Raises:
            UnknownNameError: there is no such role.
        """
        if role not in ROLES:
            raise UnknownNameError("role of a classifier", role, ROLES)
        start = f"{self.last_layer_name}."
        chosen = {
            path: parameter
            for path, parameter in self.module.named_parameters()
            if role == "all" or path.startswith(start) == (role == "last_layer")
        }
        paths = {canonical_name(path): path for path in chosen}
        parameters = {canonical_name(path): parameter for path, parameter in chosen.items()}
        return ParameterGroup(role, (COMPONENT,), parameters, paths)

    def class_indices(self, words: Sequence[str]) -> list[int]:
        """Returns the indices of the classes with these names.

        Raises:
            EffaceError: a word is no class.
        """
        known = {fold_case(name): index for index, name in enumerate(self.classes)}
        if unknown := [word for word in words if fold_case(word) not in known]:
            raise UnknownNameError(f"class of {self.name}", unknown[0], self.classes)
        return sorted({known[fold_case(word)] for word in words})


def last_layer(module: nn.Module, num_classes: int, name: str) -> tuple[str, nn.Linear]:
    """Returns the path and the linear layer that gives the logits.

    Raises:
        EffaceError: the network has no such layer.
    """
    for path, layer in reversed(list(module.named_modules())):
        if isinstance(layer, nn.Linear) and layer.out_features == num_classes:
            return path, layer
    raise EffaceError(f"{name} has no linear layer of its {num_classes} classes: give another classifier")


def label_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Returns the first name of each label in small letters; the whole label where labels share their first name."""
    first_names = [label.partition(",")[0].strip().lower() for label in labels]
    counts = Counter(first_names)
    return tuple(
        first if counts[first] == 1 else label.strip().lower() for first, label in zip(first_names, labels, strict=True)
    )


def _own_classes(module: nn.Module) -> list[str]:
    """Returns the names of the classes that a module of transformers states.

    Raises:
        EffaceError: it states none.
    """
    labels = getattr(getattr(module, "config", None), "id2label", None)
    if not labels:
        raise EffaceError(
            f"{type(module).__name__} does not name its classes: give them, as (module, transform, classes)"
        )
    return [labels[index] for index in range(len(labels))]
