"""The protocol that methods, attacks and metrics speak to; no diffusers class is named outside the adapters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from .soft_prompt import SoftTokens

Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class Tokens:
    """Tokenised prompts: one row of ids whatever the number of text encoders, which differ in their padding only.

    Attributes:
        ids: token ids, ``(B, L)``.
        mask: 1 up to and including the first end-of-text token, ``(B, L)``.
        eos: position of the first end-of-text token, ``(B,)``; the subject's tokens are at ``1 .. eos - 1``.
    """

    ids: Tensor
    mask: Tensor
    eos: Tensor


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser reads of a prompt: hidden states ``(B, L, D)`` and the pooled state ``(B, D')``.

    With two text encoders the states are both encoders' side by side, and the pooled state is the second's projected one (SDXL).
    """

    states: Tensor
    pooled: Tensor

    def __getitem__(self, index: slice | Tensor) -> Conditioning:
        return Conditioning(self.states[index], self.pooled[index])

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Several batches as one."""
        return Conditioning(torch.cat([p.states for p in parts]), torch.cat([p.pooled for p in parts]))


@dataclass(frozen=True)
class Prediction:
    """What the denoiser says at ``z_t = alpha x0 + sigma eps``, in its native form, convertible to the others.

    Attributes:
        value: native output, ``(B, C, H, W)``.
        kind: ``"epsilon"`` or ``"v_prediction"``.
        z: the noisy latent.
        alpha: signal level, ``(B, 1, 1, 1)``; sigma: noise level, alpha^2 + sigma^2 = 1.
    """

    value: Tensor
    kind: str
    z: Tensor
    alpha: Tensor
    sigma: Tensor

    def __getitem__(self, index: slice | Tensor) -> Prediction:
        return Prediction(self.value[index], self.kind, self.z[index], self.alpha[index], self.sigma[index])

    @property
    def epsilon(self) -> Tensor:
        """The predicted noise."""
        return self.value if self.kind == "epsilon" else self.alpha * self.value + self.sigma * self.z

    @property
    def x0(self) -> Tensor:
        """The predicted clean latent."""
        if self.kind == "epsilon":
            return (self.z - self.sigma * self.value) / self.alpha
        return self.alpha * self.z - self.sigma * self.value

    @property
    def velocity(self) -> Tensor:
        """The predicted velocity, alpha eps - sigma x0 (Salimans and Ho 2022, arXiv 2202.00512)."""
        return self.value if self.kind == "v_prediction" else self.alpha * self.epsilon - self.sigma * self.x0


@dataclass(frozen=True)
class TrajectoryPoint:
    """One step of guided sampling: the latent before the step, its timestep, and both predictions made there."""

    z: Tensor
    t: int
    conditional: Prediction
    unconditional: Prediction


class TextToImage(Protocol):
    """A text-to-image model, whatever its architecture."""

    name: str
    family: str
    components: dict[str, nn.Module]

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        ...

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Prompts to tokens; warns once, and says what was cut, when prompts are too long.

        Every adapter calls `efface.core.policy.check_prompts` here first: all prompts come this way.
        """
        ...

    def truncated_text(self, prompts: Sequence[str]) -> dict[str, str]:
        """Of those prompts that are longer than the context, what is cut off."""
        ...

    def vocabulary_words(self, *, alone: bool = False) -> list[str]:
        """Every token of the vocabulary that ends a word, as text, without the marker of its end; ``alone``: only whole words."""
        ...

    def detokenize(self, ids: Sequence[int]) -> str:
        """Token ids to text."""
        ...

    def encode(
        self, prompts: Sequence[str] | Tokens, *, soft: Tensor | SoftTokens | None = None, params: Params | None = None
    ) -> Conditioning:
        """Prompts to conditioning, differentiable; ``soft`` embeddings go in after BOS, or where they say; ``params`` replaces tensors."""
        ...

    def unconditional(self, count: int) -> Conditioning:
        """What classifier-free guidance starts from, ``count`` times: the empty prompt's conditioning, or zeros where a model has it so."""
        ...

    def predict(self, z: Tensor, t: Tensor | int, cond: Conditioning, *, params: Params | None = None) -> Prediction:
        """One pass of the denoiser."""
        ...

    def trajectory(
        self, cond: Conditioning, *, steps: int, guidance: float, seeds: Sequence[int]
    ) -> Iterator[TrajectoryPoint]:
        """Sample with guidance and yield every step."""
        ...

    def sample(
        self, prompts: Sequence[str], *, seeds: Sequence[int], num_inference_steps: int = 20, guidance_scale: float = 3.0, batch_size: int | None = None,
        soft: SoftTokens | None = None,
    ) -> Tensor:  # fmt: skip
        """Draw one image for each prompt and seed: ``(N, 3, H, W)`` in [0, 1]; ``batch`` at once, by default as many as are wise."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Latents to images in [0, 1]."""
        ...

    def encode_image(self, images: Tensor) -> Tensor:
        """Images in [0, 1] to latents (the posterior's mean)."""
        ...
