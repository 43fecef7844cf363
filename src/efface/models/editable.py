"""The part of the model protocol that training and editing need, beyond drawing images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor

from .guidance_hooks import GuidanceEdit
from .parameter_groups import ParameterGroup
from .protocol import Conditioning, Params, TextToImage, TrajectoryPoint


class EditableModel(TextToImage, Protocol):
    """A text-to-image model whose parameters can be selected, whose base can be recognised and whose guidance can be edited."""

    guidance_edits: list[GuidanceEdit]

    @property
    def image_size(self) -> int:
        """Side of an image in pixels."""
        ...

    @property
    def batch(self) -> int:
        """How many images to draw at once where nobody says."""
        ...

    @property
    def timesteps(self) -> int:
        """How many noise levels the model was trained on."""
        ...

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Clean latents ``(B, C, H, W)`` with noise at timesteps ``(B,)``."""
        ...

    def parameter_group(self, role: str) -> ParameterGroup:
        """The parameters of a role, such as ``cross_kv``."""
        ...

    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """The fingerprint of every component."""
        ...

    def trajectory(
        self, cond: Conditioning, *, steps: int, guidance: float, seeds: Sequence[int], params: Params | None = None
    ) -> Iterator[TrajectoryPoint]:
        """Sample with guidance, with ``params`` in place of the denoiser's own tensors, and yield every step."""
        ...
