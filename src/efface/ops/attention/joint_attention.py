"""Attention of text and image tokens to each other in SD3 and FLUX: the columns of a concept's tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.models.flow_model import FlowModel
from efface.models.quantization import matrix_group

KEY_PROJECTION = "add_k_proj"
"""Layer that projects the text tokens to keys, in every block in which text and image attend jointly."""


class JointAttention(TorchFunctionMode):
    """Queries and keys of one layer, as they reach PyTorch's attention: normalised and rotated by their positions.

    Args:
        text_first: whether the text tokens come before the image tokens.

    Attributes:
        query: of the last pass, ``(B, heads, tokens, D)``; None before the first.
        key: of the last pass, ``(B, heads, tokens, D)``.
    """

    def __init__(self, text_first: bool) -> None:
        super().__init__()
        self.text_first = text_first
        self.query: Tensor | None = None
        self.key: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Keeps the queries and keys of an attention; every function runs unchanged."""
        named: Mapping[str, Any] = kwargs or {}
        if func is scaled_dot_product_attention:
            self.query, self.key = named.get("query", *args[:1]), named.get("key", *args[1:2])
        return func(*args, **named)

    def columns(self, token_mask: Tensor) -> Tensor:
        """Returns the attention of all tokens to the marked text tokens in the last pass.

        The columns of ``softmax(q k^T / sqrt(D))`` are the attention's output for values that are 1 at one token and 0
        elsewhere, so that no matrix of tokens x tokens is stored.

        Args:
            token_mask: bool ``(B, L)`` over the L text tokens.

        Returns:
            float32 ``(B, heads, tokens, m)``, m the largest number of marked tokens in a row; zeros for missing ones.

        Raises:
            EffaceError: the layer does not use PyTorch's attention.
        """
        if self.query is None or self.key is None:
            raise EffaceError(
                "the denoiser's attention was not observed: let it use PyTorch's (pipe.transformer."
                'set_attention_backend("native"))'
            )
        number = (token_mask.cumsum(1) - 1).clamp(min=0)
        marked = one_hot(number, int(number.max()) + 1) * token_mask[..., None]
        num_image_tokens = self.key.shape[2] - token_mask.shape[1]
        image = marked.new_zeros(len(marked), num_image_tokens, marked.shape[2])
        values = torch.cat([marked, image] if self.text_first else [image, marked], dim=1)
        query, key = self.query.float(), self.key.float()
        values = values.to(query)[:, None].expand(-1, key.shape[1], -1, -1)
        return scaled_dot_product_attention(query, key, values)


@contextmanager
def joint_attention(model: EditableModel) -> Iterator[JointAttention]:
    """Records the attention in the last block in which text and image tokens attend jointly.

    Raises:
        EffaceError: the model has no such block.
    """
    if not isinstance(model, FlowModel):
        raise EffaceError(f"{model.name} has no joint attention of text and image: choose an SD3 or FLUX model")
    recorder = JointAttention(model.text_tokens_first)
    paths = matrix_group(model, "text_stream_kv").paths.values()
    layer = [path for path in paths if KEY_PROJECTION in path][-1].partition(f".{KEY_PROJECTION}")[0]
    module = model.transformer.get_submodule(layer)

    def enter(*_: Any) -> None:
        recorder.__enter__()

    def leave(*_: Any) -> None:
        recorder.__exit__(None, None, None)

    handles = [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


def attention_norm(columns: Tensor) -> Tensor:
    """Computes the sum over tokens q and marked tokens k of ``|| A[heads, q, k] ||_2``; batch mean.

    Args:
        columns: attention to the marked tokens, ``(B, heads, tokens, m)``.
    """
    return columns.norm(dim=1).sum((1, 2)).mean()


def unit_column(columns: Tensor) -> Tensor:
    """Returns the first head's attention to the marked tokens, summed over them and with norm 1: ``(B, tokens)``."""
    return normalize(columns[:, 0].sum(-1), dim=-1)
