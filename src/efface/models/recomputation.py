"""Gradient checkpointing of a module whose parameters are replaced, or whose hooks act, for one pass.

diffusers recomputes a block in the backward pass (Chen et al. 2016, arXiv 1604.06174), when the pass that replaced the
parameters has long ended: without help, the block would be recomputed with the module's own parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_FUNCTION = "_gradient_checkpointing_func"
"""Attribute under which diffusers keeps the function that runs a block and forgets what it computed."""


def recomputes_with(module: nn.Module, params: Mapping[str, Tensor]) -> AbstractContextManager[None]:
    """Lets every checkpointed block that runs in the body be recomputed with these parameters.

    Args:
        module: a module of diffusers, with or without gradient checkpointing.
        params: tensors by parameter name that replace the module's own in the body.
    """
    return recomputes_in(module, partial(_replaced, module, params))


@contextmanager
def recomputes_in(module: nn.Module, context: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Lets every checkpointed block that runs in the body be recomputed in a context.

    Args:
        module: a module of diffusers, with or without gradient checkpointing.
        context: opens the context that the body runs in, too.
    """
    checkpointed: list[Any] = [part for part in module.modules() if getattr(part, "gradient_checkpointing", False)]
    originals = [getattr(part, _FUNCTION) for part in checkpointed]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), context()

    for part in checkpointed:
        setattr(part, _FUNCTION, partial(checkpoint, use_reentrant=False, context_fn=contexts))
    try:
        yield
    finally:
        for part, original in zip(checkpointed, originals, strict=True):
            setattr(part, _FUNCTION, original)


@contextmanager
def _replaced(module: nn.Module, params: Mapping[str, Tensor]) -> Iterator[None]:
    """Puts tensors in place of a module's parameters."""
    owners = {name: module.get_submodule(name.rpartition(".")[0])._parameters for name in params}
    originals = {name: owner[name.rpartition(".")[2]] for name, owner in owners.items()}
    try:
        for name, owner in owners.items():
            owner[name.rpartition(".")[2]] = params[name]  # type: ignore[assignment]
        yield
    finally:
        for name, owner in owners.items():
            owner[name.rpartition(".")[2]] = originals[name]
