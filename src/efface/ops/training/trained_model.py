"""What a loss needs of a model in training: `Student` trains copies of parameters, `InsertedStudent` modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning, Prediction, Tokens


class TrainedModel(Protocol):
    """A model in training beside the frozen original."""

    model: EditableModel

    @property
    def trains_text(self) -> bool:
        """Whether text encoders are trained instead of the denoiser."""
        ...

    def encode(self, prompts: Sequence[str] | Tokens) -> Conditioning:
        """Encodes prompts with the model in training."""
        ...

    def predict(self, z: Tensor, t: Tensor | float, cond: Conditioning) -> Prediction:
        """Runs the denoiser in training once."""
        ...
