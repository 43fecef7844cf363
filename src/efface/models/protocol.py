"""The model protocol: what methods, attacks and metrics may call; diffusers classes appear in the adapters alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from .conditioning import Conditioning, Tokens
from .soft_prompt import SoftTokens

__all__ = ["Conditioning", "Params", "Prediction", "TextToImage", "Tokens", "TrajectoryPoint"]

Params = Mapping[str, Tensor]
"""Tensors by parameter name that replace a component's own for one pass."""


@dataclass(frozen=True)
class Prediction:
    """The denoiser's output at ``z_t = alpha x0 + sigma eps``, convertible between noise, clean latent and velocity.

    Attributes:
        value: output in the model's native parameterization, ``(B, C, H, W)``.
        prediction_type: ``"epsilon"``, ``"v_prediction"`` or ``"flow"``.
        z: noisy latent, ``(B, C, H, W)``.
        alpha: signal level, ``(B, 1, 1, 1)``.
        sigma: noise level, ``(B, 1, 1, 1)``; alpha^2 + sigma^2 = 1, for flow matching alpha + sigma = 1.
    """

    value: Tensor
    prediction_type: str
    z: Tensor
    alpha: Tensor
    sigma: Tensor

    def __getitem__(self, index: slice | Tensor) -> Prediction:
        rows = (self.value[index], self.prediction_type, self.z[index], self.alpha[index], self.sigma[index])
        return Prediction(*rows)

    @property
    def epsilon(self) -> Tensor:
        """The predicted noise."""
        if self.prediction_type == "epsilon":
            return self.value
        if self.prediction_type == "flow":
            return self.z + self.alpha * self.value
        return self.alpha * self.value + self.sigma * self.z

    @property
    def x0(self) -> Tensor:
        """The predicted clean latent."""
        if self.prediction_type == "epsilon":
            return (self.z - self.sigma * self.value) / self.alpha
        if self.prediction_type == "flow":
            return self.z - self.sigma * self.value
        return self.alpha * self.z - self.sigma * self.value

    @property
    def velocity(self) -> Tensor:
        """The predicted velocity along the path of noise levels.

        It is alpha eps - sigma x0 (Salimans and Ho 2022, arXiv 2202.00512), for flow matching eps - x0 (Lipman et al.
        2022, arXiv 2210.02747).
        """
        if self.prediction_type != "epsilon":
            return self.value
        return self.alpha * self.epsilon - self.sigma * self.x0


@dataclass(frozen=True)
class TrajectoryPoint:
    """One step of guided sampling.

    Attributes:
        z: latent before the step, ``(B, C, H, W)``.
        t: timestep, whole for diffusion models; -1 for the clean latent after the last step.
        conditional: prediction for the prompt at ``z``.
        unconditional: prediction for the empty prompt at ``z``.
    """

    z: Tensor
    t: float
    conditional: Prediction
    unconditional: Prediction


class TextToImage(Protocol):
    """A text-to-image model of any architecture."""

    name: str
    family: str
    components: dict[str, nn.Module]

    @property
    def device(self) -> torch.device:
        """The device that the model computes on."""
        ...

    @property
    def default_guidance_scale(self) -> float:
        """Guidance scale of images that a check generates; 0 for a model without guidance."""
        ...

    @property
    def prediction_guidance_scale(self) -> float | None:
        """Guidance scale that predictions outside of sampling read; None where guidance needs two predictions."""
        ...

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Tokenizes prompts; warns once, with the truncated text, when prompts exceed the context length.

        Every adapter calls `efface.core.policy.check_prompts` here first, because every prompt passes through this
        method.
        """
        ...

    def truncated_text(self, prompts: Sequence[str]) -> dict[str, str]:
        """Returns, by prompt, the text beyond the context length; prompts that fit are absent."""
        ...

    def vocabulary_words(self, *, whole_only: bool = False) -> list[str]:
        """Returns the tokens that end a word, as text without the end-of-word marker.

        Args:
            whole_only: leave out tokens that only end longer words (see `nonword_tokens`).
        """
        ...

    def detokenize(self, ids: Sequence[int]) -> str:
        """Converts token ids to text."""
        ...

    def encode(
        self, prompts: Sequence[str] | Tokens, *, soft: Tensor | SoftTokens | None = None, params: Params | None = None
    ) -> Conditioning:
        """Encodes prompts, differentiably.

        Args:
            prompts: B prompts or their tokens.
            soft: embeddings to insert before the prompt, ``(B or 1, k, D)``, or to write over the tokens in
                `SoftTokens.mask`.
            params: tensors that replace the text encoder's own.
        """
        ...

    def unconditional(self, count: int) -> Conditioning:
        """Returns ``count`` rows of the conditioning of unconditional predictions: the empty prompt's, or zeros."""
        ...

    def predict(self, z: Tensor, t: Tensor | float, cond: Conditioning, *, params: Params | None = None) -> Prediction:
        """Runs the denoiser once on latents ``(B, C, H, W)`` at timesteps ``t``, ``(B,)`` or one for all."""
        ...

    def trajectory(
        self, cond: Conditioning, *, num_inference_steps: int, guidance_scale: float, seeds: Sequence[int]
    ) -> Iterator[TrajectoryPoint]:
        """Samples with classifier-free guidance and yields every step."""
        ...

    def sample(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
        batch_size: int | None = None,
        soft: SoftTokens | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Generates one image ``(3, H, W)`` in [0, 1] for each prompt and seed, ``batch_size`` images at a time."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Decodes latents to images in [0, 1]."""
        ...

    def encode_image(self, images: Tensor) -> Tensor:
        """Encodes images in [0, 1] to latents (the posterior's mean)."""
        ...
