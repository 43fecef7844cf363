"""Windows of image tokens: the states of one window with gradients, those before it without (EAR, arXiv 2506.20151)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.errors import EffaceError, UnknownNameError
from efface.models.image_token_context import CONTEXTS, ImageTokenContext


@dataclass(frozen=True)
class Window:
    """Consecutive image tokens.

    Attributes:
        start: index of the first token.
        stop: index behind the last token.
        share: length relative to a complete window; below 1 for the last, incomplete one.
    """

    start: int
    stop: int
    share: float


def token_windows(num_tokens: int, length: int) -> list[Window]:
    """Divides an image's tokens into windows; the last one may be shorter.

    Raises:
        EffaceError: a length below 1.
    """
    if length < 1:
        raise EffaceError(f"a window of {length} tokens holds none: set window to 1 or more")
    starts = range(0, num_tokens, length)
    return [Window(start, min(start + length, num_tokens), min(1.0, (num_tokens - start) / length)) for start in starts]


def check_context(context: str) -> None:
    """Raises `UnknownNameError` unless the context is one of ``cache`` and ``none``."""
    if context not in CONTEXTS:
        raise UnknownNameError("context", context, CONTEXTS)


def window_states(
    context: ImageTokenContext, tokens: Tensor, window: Window, params: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Reads the tokens before those of a window; returns the states that predict the window's tokens, ``(R, T, D)``.

    Windows must follow each other. Within a window gradients flow through keys and values.

    Args:
        context: has read everything before the window.
        tokens: the image's tokens, ``(R, N)``.
        window: the window.
        params: tensors that replace the language model's own.
    """
    context.detach()
    states = [context.read_prompts(params)[:, None]] if window.start == 0 else []
    inputs = tokens[:, max(window.start - 1, 0) : window.stop - 1]
    if inputs.shape[1]:
        states.append(context.read(inputs, params))
    return torch.cat(states, dim=1)


@torch.no_grad()
def image_states(context: ImageTokenContext, tokens: Tensor) -> Tensor:
    """Returns the original's states that predict given tokens ``(R, N)``, ``(R, N, D)``."""
    return window_states(context, tokens, Window(0, tokens.shape[1], 1.0))
