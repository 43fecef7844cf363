"""Offloading: a pipeline's components lie on the CPU, and one moves to the execution device while it is needed.

It replaces the hooks of ``pipe.enable_model_cpu_offload()``. Those move a component away as soon as another one runs,
which breaks gradients: autograd keeps frozen weights by reference, and reads them in the backward pass. Here a
component stays on the device as long as something that needs it there exists:

- a tensor that one of its passes saved for a gradient (`placed`),
- the parameters of one of its groups (`hold`), which training reads between passes.

Passes of the pipeline itself move components, too, through a hook that accelerate calls before each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import ref

import torch
from accelerate.hooks import CpuOffload, ModelHook, add_hook_to_module
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

CPU = torch.device("cpu")


class Placement:
    """Which of a pipeline's components lie on the execution device.

    Args:
        modules: the offloaded components by name; all are moved to the CPU.
        device: the execution device.
    """

    def __init__(self, modules: Mapping[str, nn.Module], device: torch.device) -> None:
        self.device = torch.empty(0, device=device).device  # with its index: "cuda" differs from "cuda:0"
        self._modules = dict(modules)
        self._resident: set[str] = set()
        self._holders: dict[str, list[ref[Any]]] = {name: [] for name in modules}
        for name, module in modules.items():
            self.to_cpu(module)
            add_hook_to_module(module, OffloadHook(self, name))

    @property
    def resident(self) -> frozenset[str]:
        """Names of the components that were moved to the execution device, and not back."""
        return frozenset(self._resident)

    def bring(self, name: str, holder: object | None = None) -> None:
        """Moves a component to the execution device, and every other one to the CPU that nothing holds.

        Args:
            name: the component.
            holder: holds the component on the device as long as it exists.
        """
        if holder is not None:
            self._holders[name].append(ref(holder))
        for other, module in self._modules.items():
            if other != name and self._is_on_device(other) and not self._is_held(other):
                self._resident.discard(other)
                self.to_cpu(module)
        module = self._modules[name]
        if name not in self._resident or _first_device(module) != self.device:
            self._resident.add(name)
            self.to_device(module)

    def to_device(self, module: nn.Module) -> None:
        """Moves a component's weights to the execution device; its parameters stay the same objects."""
        module.to(self.device)

    def to_cpu(self, module: nn.Module) -> None:
        """Moves a component's weights to the CPU; its parameters stay the same objects."""
        module.to(CPU)

    def _is_on_device(self, name: str) -> bool:
        """Whether a component has to leave: the user may have moved it to the device, too, by ``pipe.to``."""
        return name in self._resident or (self.device != CPU and _first_device(self._modules[name]) == self.device)

    def _is_held(self, name: str) -> bool:
        self._holders[name] = [holder for holder in self._holders[name] if holder() is not None]
        return bool(self._holders[name])


class OffloadHook(ModelHook):  # type: ignore[misc]
    """Brings a component to the execution device before a pass that the pipeline starts.

    Attributes:
        placement: the placement that the component belongs to.
        name: the component's name.
        execution_device: where diffusers looks up the device of a pipeline's inputs.
    """

    def __init__(self, placement: Placement, name: str) -> None:
        self.placement = placement
        self.name = name
        self.execution_device = placement.device

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Moves the component and its inputs; diffusers calls this before an autoencoder's ``decode``, too."""
        self.placement.bring(self.name)
        return send_to_device(args, self.execution_device), send_to_device(kwargs, self.execution_device)


class _Pass:
    """Stands for one pass; exists as long as a tensor that the pass saved for a gradient."""


def offload(pipe: Any, device: torch.device) -> Any:
    """Lets a pipeline's components lie on the CPU until they are needed; those that diffusers excludes do not move.

    Args:
        pipe: a diffusers pipeline, with or without the hooks of ``enable_model_cpu_offload``.
        device: the execution device.
    """
    pipe.remove_all_hooks()
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    excluded = [modules.pop(name) for name in pipe._exclude_from_cpu_offload if name in modules]
    placement = Placement(modules, device)
    for module in excluded:
        placement.to_device(module)
    return pipe


def offload_device(pipe: Any) -> torch.device | None:
    """Returns the execution device of a pipeline whose components are offloaded one by one, by diffusers or efface."""
    hooks = [getattr(part, "_hf_hook", None) for part in getattr(pipe, "components", {}).values()]
    devices = [hook.execution_device for hook in hooks if isinstance(hook, CpuOffload | OffloadHook)]
    return torch.device(devices[0]) if devices else None


def is_offloaded_by_efface(pipe: Any) -> bool:
    """Whether a pipeline's components move as this module says."""
    return any(placement_of(part) for part in pipe.components.values() if isinstance(part, nn.Module))


def placement_of(module: nn.Module) -> Placement | None:
    """Returns the placement of a component; None if it is not offloaded."""
    hook = _hook_of(module)
    return hook.placement if hook is not None else None


def execution_device(module: nn.Module) -> torch.device:
    """Returns the device that a component's passes run on."""
    hook = _hook_of(module)
    return hook.placement.device if hook is not None else _first_device(module)


def hold(module: nn.Module, holder: object) -> None:
    """Moves a component to its execution device, and keeps it there as long as ``holder`` exists."""
    hook = _hook_of(module)
    if hook is not None:
        hook.placement.bring(hook.name, holder)


def _hook_of(module: nn.Module) -> OffloadHook | None:
    """Returns efface's own hook of a component."""
    hook = getattr(module, "_hf_hook", None)
    return hook if isinstance(hook, OffloadHook) else None


@contextmanager
def placed(module: nn.Module, params: Mapping[str, Tensor] | None = None) -> Iterator[Mapping[str, Tensor]]:
    """Moves a component to its execution device for the pass in the body, and until the pass's gradient is computed.

    Args:
        module: the component.
        params: tensors that replace its own in the pass.

    Yields:
        ``params`` on the execution device.
    """
    placement, params = placement_of(module), params or {}
    if placement is None:
        yield params
        return
    run = _Pass()
    hold(module, run)
    moved = {name: tensor.to(placement.device) for name, tensor in params.items()}
    if not torch.is_grad_enabled():
        yield moved
        return
    with saved_tensors_hooks(lambda saved: (run, saved), lambda kept: kept[1]):
        yield moved


def _first_device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
