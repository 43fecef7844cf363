"""Hooks into a model's layers for as long as a ``with`` lasts; the layers themselves are never copied or rewritten."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from efface.models.editable import EditableModel

READ = "encoder_hidden_states"


@contextmanager
def detached_first_token(model: EditableModel) -> Iterator[None]:
    """No gradient through keys and values of the first token (BOS), in every attention to the text.

    Its state is the same for every prompt, so that what is trained through it changes them all (Concept Ablation's released code).
    """

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return torch.cat([output[:, :1].detach(), output[:, 1:]], dim=1)

    sites = model.parameter_group("cross_kv")
    layers = {path.rpartition(".")[0] for path in sites.paths.values()}
    with ExitStack() as stack:
        for layer in sorted(layers):
            stack.callback(model.components[sites.component].get_submodule(layer).register_forward_hook(hook).remove)
        yield


def states_hook(module: nn.Module, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Changes the hidden states ``(B, L, D)`` that a denoiser reads, or that a text encoder gives, until the handle is removed."""
    names = list(inspect.signature(module.forward).parameters)
    if READ in names:
        return module.register_forward_pre_hook(_before(change, names.index(READ)), with_kwargs=True)

    def after(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if layers := output.hidden_states:  # a model that asks for them reads those before the last layer (SDXL)
            output.hidden_states = (*layers[:-2], change(layers[-2]), layers[-1])
        output.last_hidden_state = change(output.last_hidden_state)
        return output

    return module.register_forward_hook(after)


def _before(change: Callable[[Tensor], Tensor], place: int) -> Any:
    def before(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if READ in kwargs:
            return args, {**kwargs, READ: change(kwargs[READ])}
        return (*args[:place], change(args[place]), *args[place + 1 :]), kwargs

    return before
