"""The probabilities of the attention to the text, read while the denoiser runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from efface.models.editable import EditableModel

Maps = dict[str, Tensor]


@contextmanager
def attention_maps(model: EditableModel) -> Iterator[Maps]:
    """Records the attention to the text of every pass of the denoiser, with its gradient, for as long as the ``with`` lasts.

    What attention itself computes is not touched: the probabilities are ``softmax(scale q k^T)`` again, from what the layers' own
    ``to_q`` and ``to_k`` give, also where other tensors stand in for these (``params`` of `predict`). In half precision they are float32.

    Yields:
        From a layer's name to its probabilities ``(B, heads, pixels, L)``; every pass overwrites those of the one before.
    """
    sites, found = model.parameter_group("cross_k"), Maps()
    unet = model.components[sites.component]
    with ExitStack() as stack:
        for path in sites.paths.values():
            name = path.rsplit(".", 2)[0]
            query, key = _hooks(unet.get_submodule(name), name, found)
            stack.callback(unet.get_submodule(f"{name}.to_q").register_forward_hook(query).remove)
            stack.callback(unet.get_submodule(f"{name}.to_k").register_forward_hook(key).remove)
        yield found


def _hooks(attention: nn.Module, name: str, found: Maps) -> tuple[Callable[..., None], Callable[..., None]]:
    """For one layer: keep q until k is there, and make the probabilities of both."""
    kept: list[Tensor] = []
    layer: Any = attention

    def heads(rows: Tensor) -> Tensor:
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        return wide.unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    def query(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        kept[:] = [output]

    def key(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        q, k = heads(kept.pop()), heads(output)
        found[name] = (layer.scale * q @ k.transpose(-1, -2)).softmax(-1)

    return query, key
