"""Cross-attention maps: the probabilities of the denoiser's attention to the prompt, recorded during its passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .editable import EditableModel

Maps = dict[str, Tensor]


@contextmanager
def attention_maps(model: EditableModel) -> Iterator[Maps]:
    """Records the cross-attention probabilities of every pass of the denoiser, with their gradients.

    The attention itself is unchanged. The probabilities are recomputed as ``softmax(scale q k^T)`` from the outputs of
    the layers' ``to_q`` and ``to_k``, also when `predict` replaces their weights (``params``). In half precision they
    are float32.

    Yields:
        From a layer's name to its probabilities ``(B, heads, pixels, L)``; every pass overwrites the previous ones.
    """
    group, maps = model.parameter_group("cross_k"), Maps()
    unet = model.components[group.component]
    with ExitStack() as stack:
        for path in group.paths.values():
            name = path.rsplit(".", 2)[0]
            on_query, on_key = _hooks(unet.get_submodule(name), name, maps)
            stack.callback(unet.get_submodule(f"{name}.to_q").register_forward_hook(on_query).remove)
            stack.callback(unet.get_submodule(f"{name}.to_k").register_forward_hook(on_key).remove)
        yield maps


def _hooks(attention: nn.Module, name: str, maps: Maps) -> tuple[Callable[..., None], Callable[..., None]]:
    """Returns the hooks of one layer: the first stores q, the second computes the probabilities of q and k."""
    pending_query: list[Tensor] = []
    layer: Any = attention

    def split_heads(output: Tensor) -> Tensor:
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        return output.unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    def on_query(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        pending_query[:] = [output]

    def on_key(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        q, k = split_heads(pending_query.pop()), split_heads(output)
        maps[name] = (layer.scale * q @ k.transpose(-1, -2)).softmax(-1)

    return on_query, on_key
