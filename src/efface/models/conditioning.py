"""Tokens of prompts, and what the text encoders make of them: the conditioning of the denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """Tokenized prompts; several CLIP text encoders share the ids and differ in their padding only.

    Where CLIP and T5 read the prompts (FLUX, SD3), the ids are T5's, and CLIP's travel with them.

    Attributes:
        ids: token ids, ``(B, L)``.
        mask: 1 up to and including the first end-of-text token, ``(B, L)``.
        eos: position of the first end-of-text token, ``(B,)``; the prompt's tokens are at ``start .. eos - 1``.
        start: position of the prompt's first token: 1 after CLIP's begin-of-text token, 0 for T5, which has none.
        state_offset: index of the first token's state; SD3 puts CLIP's states before T5's.
        clip: CLIP's tokens of the same prompts, where ``ids`` are T5's; else None.
    """

    ids: Tensor
    mask: Tensor
    eos: Tensor
    start: int = 1
    state_offset: int = 0
    clip: Tokens | None = None

    def __getitem__(self, index: slice | Tensor) -> Tokens:
        clip = None if self.clip is None else self.clip[index]
        return replace(self, ids=self.ids[index], mask=self.mask[index], eos=self.eos[index], clip=clip)

    def __len__(self) -> int:
        return len(self.ids)

    def without_padding(self) -> Tokens:
        """Returns the tokens up to the longest prompt's end, if the states up to there do not depend on the rest.

        CLIP's encoder is causal. T5 reads its padding, too, so that its tokens are returned unchanged.
        """
        if self.clip is not None:
            return self
        length = int(self.eos.max()) + 1
        return replace(self, ids=self.ids[:, :length], mask=self.mask[:, :length])


@dataclass(frozen=True)
class Conditioning:
    """The text encoder's output that conditions the denoiser.

    Attributes:
        states: hidden states, ``(B, L, D)``; with two text encoders (SDXL), both encoders' states concatenated along D.
        pooled: pooled state, ``(B, D')``; with two text encoders, the projected one of the second; SD3: both
            projected ones, concatenated.
        guidance: guidance scale that a guidance-distilled denoiser (FLUX.1-dev) reads, ``(B,)``; None: the model's
            default.
        mask: 1 for the states that the denoiser attends to, ``(B, L)`` (Sana); None for all.
    """

    states: Tensor
    pooled: Tensor
    guidance: Tensor | None = None
    mask: Tensor | None = None

    def __getitem__(self, index: slice | Tensor) -> Conditioning:
        guidance, mask = (None if part is None else part[index] for part in (self.guidance, self.mask))
        return Conditioning(self.states[index], self.pooled[index], guidance, mask)

    def with_guidance(self, scale: float) -> Conditioning:
        """Returns the conditioning with one guidance scale for all rows."""
        return replace(self, guidance=torch.full((len(self.states),), scale, device=self.states.device))

    @staticmethod
    def cat(batches: Sequence[Conditioning]) -> Conditioning:
        """Concatenates batches along the batch axis; either all batches have a guidance scale, or none."""
        scales = [b.guidance for b in batches if b.guidance is not None]
        if scales and len(scales) < len(batches):
            raise ValueError("some of the conditionings have a guidance scale and some have none")
        guidance = torch.cat(scales) if scales else None
        masks = [torch.ones_like(b.states[..., 0]).long() if b.mask is None else b.mask for b in batches]
        mask = torch.cat(masks) if any(b.mask is not None for b in batches) else None
        states, pooled = (torch.cat(parts) for parts in zip(*((b.states, b.pooled) for b in batches), strict=True))
        return Conditioning(states, pooled, guidance, mask)
