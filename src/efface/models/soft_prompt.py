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
    """Embeddings that replace the token embeddings at some positions.

    Attributes:
        embeddings: ``(B, L, D)``; read only where ``mask`` is true.
        mask: the positions, bool ``(B, L)``; positions beyond L keep their tokens.
    """

    embeddings: Tensor
    mask: Tensor

    def __getitem__(self, index: slice | Tensor) -> SoftTokens:
        return SoftTokens(self.embeddings[index], self.mask[index])


def token_embedding(encoder: nn.Module) -> nn.Module:
    """Finds CLIP's or T5's token embedding by the suffix of its name: library versions disagree on the path before.

    T5's is held under two names; where these are two modules with one weight, the encoder calls the later one.
    """
    endings = ("token_embedding", "shared", "embed_tokens")
    return [module for name, module in encoder.named_modules() if name.endswith(endings)][-1]


@contextmanager
def inject_soft_tokens(
    encoder: nn.Module, ids: Tensor, soft: Tensor | SoftTokens | None, start: int = 1
) -> Iterator[Tensor]:
    """Writes soft embeddings over the token embeddings while the context is open, and removes the hook after it.

    Args:
        encoder: the text encoder.
        ids: token ids, ``(B, L)``.
        soft: `SoftTokens` are written at their mask. A tensor ``(B or 1, k, D)`` is written from ``start`` on, and the
            ids from there move k positions to the right, so that the last k leave the context. None changes nothing.
        start: position of a prompt's first token.

    Yields:
        The token ids ``(B, L)`` to run the encoder on.
    """
    if soft is None:
        yield ids
        return
    hook = _masked_hook(soft) if isinstance(soft, SoftTokens) else _insert_hook(soft, start)
    handle = token_embedding(encoder).register_forward_hook(hook)
    try:
        if isinstance(soft, SoftTokens):
            yield ids
        else:
            k = soft.shape[1]
            yield torch.cat([ids[:, :start], ids[:, :1].expand(-1, k), ids[:, start : ids.shape[1] - k]], dim=1)
    finally:
        handle.remove()


def _insert_hook(soft: Tensor, start: int) -> Any:
    """Returns a hook that writes embeddings ``(B or 1, k, D)`` at the k positions from ``start`` on."""

    def write(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        inserted = soft.expand(len(output), -1, -1).to(output.dtype)
        return torch.cat([output[:, :start], inserted, output[:, start + soft.shape[1] :]], dim=1)

    return write


def _masked_hook(soft: SoftTokens) -> Any:
    """Returns a hook that writes embeddings where their mask is true."""

    def write(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        length = min(soft.embeddings.shape[1], output.shape[1])
        mask = soft.mask[:, :length, None]
        embeddings = soft.embeddings[:, :length].to(output.dtype)
        return torch.cat([torch.where(mask, embeddings, output[:, :length]), output[:, length:]], dim=1)

    return write
