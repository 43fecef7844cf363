"""Predictions of the retrained classifier, kept in a safetensors file beside the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from efface.core.errors import EffaceError
from efface.ops.classifiers.predictions import Predictions

FILE = "predictions.safetensors"
"""File of an evaluation's evidence that holds the erased classifier's predictions."""


@dataclass(frozen=True)
class Retrained:
    """The retrained classifier as far as a benchmark needs it.

    Attributes:
        probabilities: predictions by group, ``(N, C)``.
        seconds: duration of the retraining.
    """

    probabilities: Mapping[str, Tensor]
    seconds: float

    @classmethod
    def load(cls, path: str) -> Retrained:
        """Reads the file.

        Raises:
            EffaceError: the file is not one that an evaluation wrote.
        """
        try:
            with safe_open(Path(path), "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name).double() for name in file.keys()}  # noqa: SIM118
            return cls(tensors, float(metadata["seconds"]))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise EffaceError(
                f"{path} does not hold predictions of a retrained classifier ({error}): evaluate an erasure by the "
                f"method retrain and give the {FILE} of its evidence"
            ) from error

    def distances(self, group: str, predictions: Predictions) -> Tensor:
        """Returns the total variation distance of each image's prediction from the retrained one, ``(N,)`` in [0, 1].

        Raises:
            EffaceError: the file holds predictions on other images.
        """
        own = self.probabilities.get(group)
        if own is None or own.shape != predictions.probabilities.shape:
            raise EffaceError(
                f"the retrained predictions are of other images of the group {group!r}: evaluate it again"
            )
        return (own - predictions.probabilities).abs().sum(-1) / 2


def predictions_file(predictions: Mapping[str, Predictions], seconds: float) -> bytes:
    """Returns the file's content: probabilities in half precision by group, and the duration of the erasure."""
    tensors = {name: item.probabilities.to(torch.float16).contiguous() for name, item in predictions.items()}
    return bytes(save(tensors, {"seconds": repr(seconds)}))
