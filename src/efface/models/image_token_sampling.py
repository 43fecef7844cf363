"""Samples image tokens with classifier-free guidance on logits, l_0 + s (l_c - l_0), one seed an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .guidance_hooks import GuidanceChain, GuidedStep
from .image_token_context import ImageTokenContext

if TYPE_CHECKING:
    from .janus import JanusModel


@dataclass(frozen=True)
class TokenTrajectory:
    """Image tokens with the states that predicted them.

    Attributes:
        tokens: image tokens, ``(B, N)``.
        conditional: last hidden states for the prompts, ``(B, N, D)``.
        unconditional: those for prompts whose words are padding, ``(B, N, D)``.
    """

    tokens: Tensor
    conditional: Tensor
    unconditional: Tensor

    @property
    def states(self) -> Tensor:
        """The conditional states above the unconditional ones, ``(2B, N, D)``."""
        return torch.cat([self.conditional, self.unconditional])


@torch.no_grad()
def sample_image_tokens(
    model: JanusModel,
    prompts: Sequence[str],
    generators: Sequence[torch.Generator],
    *,
    guidance_scale: float,
    temperature: float = 1.0,
    cached: bool = True,
    params: Mapping[str, Tensor] | None = None,
) -> TokenTrajectory:
    """Samples the image tokens of prompts.

    Args:
        model: the model, whose guidance edits apply.
        prompts: B prompts.
        generators: a generator on the CPU for each image.
        guidance_scale: s.
        temperature: 0 takes the likeliest token.
        cached: see `ImageTokenContext`.
        params: tensors that replace the language model's own.
    """
    chain = GuidanceChain(model.guidance_edits)
    extra = [[prompt] * len(prompts) for prompt in chain.prompts]
    context = ImageTokenContext(model, model.guided_prompts(prompts, extra), cached=cached)
    tokens: list[Tensor] = []
    states: list[Tensor] = []
    for index in range(model.num_image_tokens):
        if index == 0:
            state = context.read_prompts(params)
        else:
            state = context.read(tokens[-1].repeat(2 + len(extra))[:, None], params)[:, 0]
        conditional, unconditional, *others = model.image_logits(state).float().chunk(2 + len(extra))
        step = GuidedStep(
            index, model.num_image_tokens, float(index), guidance_scale, conditional, unconditional, tuple(others)
        )
        tokens.append(draw_tokens(chain(step), generators, temperature))
        states.append(state[: 2 * len(prompts)])
    stacked = torch.stack(states, dim=1)
    return TokenTrajectory(torch.stack(tokens, dim=1), *stacked.chunk(2))


def draw_tokens(logits: Tensor, generators: Sequence[torch.Generator], temperature: float) -> Tensor:
    """Draws one token for each row of logits ``(B, V)`` with the row's generator; temperature 0 takes the likeliest."""
    if not temperature:
        return logits.argmax(-1)
    probabilities = (logits / temperature).softmax(-1).cpu()
    rows = [torch.multinomial(row[None], 1, generator=g) for row, g in zip(probabilities, generators, strict=True)]
    return torch.cat(rows)[:, 0].to(logits.device)
