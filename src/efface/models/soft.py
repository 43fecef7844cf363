"""Soft tokens: embeddings that go in right after BOS, through a hook on the token embedding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def token_embedding(encoder: nn.Module) -> nn.Module:
    """The token embedding, found by suffix: library versions disagree on the path before it."""
    return next(module for name, module in encoder.named_modules() if name.endswith("token_embedding"))


@contextmanager
def soft_tokens(encoder: nn.Module, ids: Tensor, soft: Tensor | None) -> Iterator[Tensor]:
    """Yields the token ids ``(B, L)`` to run the encoder on, while ``soft`` ``(B or 1, k, D)`` is written over places 1 to k.

    The ids from place 1 on move k places to the right, so that the last k fall out of the context.
    """
    if soft is None:
        yield ids
        return
    k = soft.shape[1]

    def write(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return torch.cat([output[:, :1], soft.expand(len(output), -1, -1).to(output.dtype), output[:, 1 + k :]], dim=1)

    hook = token_embedding(encoder).register_forward_hook(write)
    try:
        yield torch.cat([ids[:, :1], ids[:, :1].expand(-1, k), ids[:, 1 : ids.shape[1] - k]], dim=1)
    finally:
        hook.remove()
