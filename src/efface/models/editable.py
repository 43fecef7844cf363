"""The part of the model protocol that training and editing need beyond generating images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor

from .guidance_hooks import GuidanceEdit, LatentEdit
from .parameter_groups import ParameterGroup
from .protocol import Conditioning, Params, TextToImage, TrajectoryPoint


class EditableModel(TextToImage, Protocol):
    """A text-to-image model with selectable parameters, a fingerprint and editable guidance."""

    guidance_edits: list[GuidanceEdit]
    latent_edits: list[LatentEdit]
    pipe: Any
    """The diffusers pipeline that holds the components."""

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        ...

    @property
    def default_batch_size(self) -> int:
        """Number of images that `sample` generates at a time by default."""
        ...

    @property
    def num_train_timesteps(self) -> int:
        """Number of noise levels that the model was trained on."""
        ...

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Adds noise to clean latents ``(B, C, H, W)`` at timesteps ``(B,)``."""
        ...

    def parameter_group(self, role: str) -> ParameterGroup:
        """Returns the parameters of a role, such as ``cross_kv``."""
        ...

    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """Returns the fingerprint of every component."""
        ...

    def trajectory(
        self,
        cond: Conditioning,
        *,
        num_inference_steps: int,
        guidance_scale: float,
        seeds: Sequence[int],
        params: Params | None = None,
    ) -> Iterator[TrajectoryPoint]:
        """Samples with classifier-free guidance and yields every step; ``params`` replaces the denoiser's tensors."""
        ...

    def sample_latents(
        self, cond: Conditioning, *, num_inference_steps: int, guidance_scale: float, seeds: Sequence[int]
    ) -> Tensor:
        """Samples the clean latents ``(B, C, h, w)`` of B prompts, without predictions that guidance does not read."""
        ...
