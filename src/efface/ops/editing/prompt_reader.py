"""Finds the token ids of the states that a denoiser reads, by watching the text encoder."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

MAX_CALLS = 64
"""Number of passes of the text encoder that are remembered."""


class PromptReader:
    """Remembers what a text encoder last read, so that a gate at the denoiser knows the prompt's tokens.

    A denoiser reads states, not text. States that no remembered pass gave, such as those of a learned embedding, have
    no tokens.

    Args:
        encoder: the text encoder; of two CLIP encoders the first (SDXL), and T5 beside CLIP (FLUX, SD3).
        before_last_layer: whether the denoiser reads the states before the encoder's last layer (SDXL).
        reads_end: whether the encoder's states are the last that the denoiser reads (T5), or the first.
    """

    def __init__(self, encoder: nn.Module, before_last_layer: bool, reads_end: bool = False) -> None:
        self._encoder = encoder
        self._before_last_layer = before_last_layer
        self._reads_end = reads_end
        self._passes: deque[tuple[Tensor, Tensor]] = deque(maxlen=MAX_CALLS)
        self._handle = encoder.register_forward_hook(self._remember, with_kwargs=True)

    def move_last(self) -> None:
        """Reads the states behind all hooks of edits that were applied meanwhile."""
        self._handle.remove()
        self._passes.clear()
        self._handle = self._encoder.register_forward_hook(self._remember, with_kwargs=True)

    def close(self) -> None:
        """Ends the watch."""
        self._handle.remove()
        self._passes.clear()

    def _remember(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        ids = args[0] if args else kwargs.get("input_ids")
        layers = getattr(output, "hidden_states", None)
        states = layers[-2] if self._before_last_layer and layers else output[0]
        if isinstance(ids, Tensor) and not states.requires_grad:
            self._passes.append((ids.clone(), states.clone()))  # a caller may write to its own

    def ids_of(self, states: Tensor) -> list[tuple[int, ...] | None]:
        """Returns the token ids of each row of states ``(B, L, D)``; None for states that no pass gave."""
        found: list[tuple[int, ...] | None] = [None] * len(states)
        for ids, known in reversed(self._passes):
            length = known.shape[1]
            own = (states[:, -length:] if self._reads_end else states[:, :length])[:, :, : known.shape[-1]]
            if own.shape[1:] != known.shape[1:]:
                continue
            equal = (own[:, None] == known.to(own)[None]).flatten(2).all(-1)
            for row, column in equal.nonzero().tolist():
                found[row] = found[row] or tuple(ids[column].tolist())
            if all(found):
                break
        return found


def is_unconditional(states: Tensor, ids: list[tuple[int, ...] | None], special: set[int]) -> bool:
    """Whether all rows are the unconditional prompt: zeros (SDXL), or the empty prompt.

    Args:
        states: ``(B, L, D)``.
        ids: token ids of the rows, from `PromptReader.ids_of`.
        special: ids of the tokenizer's special tokens.
    """
    return not bool(torch.count_nonzero(states)) or all(row is not None and set(row) <= special for row in ids)
