"""Temporary hooks into a model's layers, which are never copied or rewritten."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.models.language_layers import decoder_layers

TEXT_INPUT = "encoder_hidden_states"


@contextmanager
def detached_first_token(model: EditableModel) -> Iterator[None]:
    """Stops the gradient through keys and values of the first token (BOS) in every layer that attends to the text.

    BOS has the same state in every prompt: training through it would change all prompts (Concept Ablation's released
    code). FLUX's text has no BOS, so that nothing is stopped.
    """
    tokens = model.tokenize([""])
    if not tokens.start and not tokens.state_offset:
        yield
        return

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return torch.cat([output[:, :1].detach(), output[:, 1:]], dim=1)

    group = model.parameter_group("text_stream_kv" if "transformer" in model.components else "cross_kv")
    layers = {path.rpartition(".")[0] for path in group.paths.values()}
    with ExitStack() as stack:
        for layer in sorted(layers):
            stack.callback(model.components[group.component].get_submodule(layer).register_forward_hook(hook).remove)
        yield


def states_hook(module: nn.Module, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Registers a change of the hidden states ``(B, L, D)`` that a denoiser reads or a text encoder returns.

    Returns:
        The handle whose ``remove`` ends the change.
    """
    names = list(inspect.signature(module.forward).parameters)
    if TEXT_INPUT in names:
        return module.register_forward_pre_hook(_before(change, names.index(TEXT_INPUT)), with_kwargs=True)

    def after(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if layers := output.hidden_states:  # SDXL reads the states before the last layer
            output.hidden_states = (*layers[:-2], change(layers[-2]), layers[-1])
        output.last_hidden_state = change(output.last_hidden_state)
        return output

    return module.register_forward_hook(after)


def layer_hook(module: nn.Module, index: int, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Registers a change of the states ``(B, L, D)`` behind a decoder layer of a language model.

    Raises:
        EffaceError: the model has no layer of this number.
    """
    layers = decoder_layers(module)[1]
    if not 0 <= index < len(layers):
        raise EffaceError(f"the erasure edits layer {index}; the model has layers 0 to {len(layers) - 1}")

    def after(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    return layers[index].register_forward_hook(after)


def _before(change: Callable[[Tensor], Tensor], index: int) -> Any:
    def before(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if TEXT_INPUT in kwargs:
            return args, {**kwargs, TEXT_INPUT: change(kwargs[TEXT_INPUT])}
        return (*args[:index], change(args[index]), *args[index + 1 :]), kwargs

    return before
