"""One text encoder with its tokenizer, run with soft embeddings and replaced parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .conditioning import Tokens
from .parameter_groups import call_with_params, component_params
from .protocol import Params
from .soft_prompt import SoftTokens, inject_soft_tokens, token_embedding


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder with its tokenizer.

    Attributes:
        component: the component's name, ``text_encoder`` or ``text_encoder_2``.
        tokenizer: its tokenizer.
        module: the encoder.
    """

    component: str
    tokenizer: Any
    module: nn.Module

    @property
    def width(self) -> int:
        """Width of a token embedding."""
        weight = token_embedding(self.module).weight
        return int(weight.shape[1])  # type: ignore[index, union-attr]

    def padded_ids(self, tokens: Tokens) -> Tensor:
        """Returns the token ids ``(B, L)`` with this encoder's padding after the first end-of-text token."""
        is_padding = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)[None] > tokens.eos[:, None]
        return torch.where(is_padding, self.tokenizer.pad_token_id, tokens.ids)


def run_encoder(
    encoder: TextEncoder,
    ids: Tensor,
    soft: Tensor | SoftTokens | None,
    params: Params | None,
    *,
    columns: slice = slice(None),
    start: int = 1,
    **options: Any,
) -> Any:
    """Runs one text encoder with soft tokens and replaced parameters.

    Args:
        encoder: the text encoder.
        ids: token ids, ``(B, L)``.
        soft: soft embeddings, or None.
        params: tensors that replace those of any text encoder.
        columns: columns of the soft embeddings that this encoder reads.
        start: position of a prompt's first token.
        options: keyword arguments of the encoder.
    """
    own_params = component_params(params or {}, encoder.component)
    with inject_soft_tokens(encoder.module, ids, _soft_columns(soft, columns), start) as input_ids:
        return call_with_params(encoder.module, own_params, input_ids, **options)


def _soft_columns(soft: Tensor | SoftTokens | None, columns: slice) -> Tensor | SoftTokens | None:
    """Returns some columns of soft embeddings."""
    if soft is None:
        return None
    if isinstance(soft, SoftTokens):
        return SoftTokens(soft.embeddings[..., columns], soft.mask)
    return soft[..., columns]
