"""Soft prompts: embeddings in place of tokens, through a hook on the token embedding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class SoftTokens:
    """Embeddings that stand in place of some tokens' own.

    Attributes:
        embeddings: ``(B, L, D)``; read where `at` says so.
        at: which places, bool ``(B, L)``; places beyond L keep their tokens.
    """

    embeddings: Tensor
    mask: Tensor

    def __getitem__(self, index: slice | Tensor) -> SoftTokens:
        return SoftTokens(self.embeddings[index], self.mask[index])


def token_embedding(encoder: nn.Module) -> nn.Module:
    """The token embedding, found by suffix: library versions disagree on the path before it."""
    return next(module for name, module in encoder.named_modules() if name.endswith("token_embedding"))


@contextmanager
def soft_tokens(encoder: nn.Module, ids: Tensor, soft: Tensor | SoftTokens | None) -> Iterator[Tensor]:
    """Yields the token ids ``(B, L)`` to run the encoder on, while soft embeddings are written over the tokens' own.

    `Soft` is written over the places that it names. A tensor ``(B or 1, k, D)`` is written over places 1 to k, and the ids from place 1 on
    move k places to the right, so that the last k fall out of the context.
    """
    if soft is None:
        yield ids
        return
    hook = token_embedding(encoder).register_forward_hook(
        _embedding_hook(soft) if isinstance(soft, SoftTokens) else _after_bos(soft)
    )
    try:
        if isinstance(soft, SoftTokens):
            yield ids
        else:
            k = soft.shape[1]
            yield torch.cat([ids[:, :1], ids[:, :1].expand(-1, k), ids[:, 1 : ids.shape[1] - k]], dim=1)
    finally:
        hook.remove()


def _after_bos(soft: Tensor) -> Any:
    def write(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        inserted = soft.expand(len(output), -1, -1).to(output.dtype)
        return torch.cat([output[:, :1], inserted, output[:, 1 + soft.shape[1] :]], dim=1)

    return write


def _embedding_hook(soft: SoftTokens) -> Any:
    def write(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        length = min(soft.embeddings.shape[1], output.shape[1])
        at, new = soft.mask[:, :length, None], soft.embeddings[:, :length].to(output.dtype)
        return torch.cat([torch.where(at, new, output[:, :length]), output[:, length:]], dim=1)

    return write
