"""Hooks into a model's layers for as long as a ``with`` lasts; the layers themselves are never copied or rewritten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from efface.models.editable import Editable


@contextmanager
def detached_first_token(model: Editable) -> Iterator[None]:
    """No gradient through keys and values of the first token (BOS), in every attention to the text.

    Its state is the same for every prompt, so that what is trained through it changes them all (Concept Ablation's released code).
    """

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return torch.cat([output[:, :1].detach(), output[:, 1:]], dim=1)

    sites = model.sites("cross_kv")
    layers = {path.rpartition(".")[0] for path in sites.paths.values()}
    with ExitStack() as stack:
        for layer in sorted(layers):
            stack.callback(model.components[sites.component].get_submodule(layer).register_forward_hook(hook).remove)
        yield
