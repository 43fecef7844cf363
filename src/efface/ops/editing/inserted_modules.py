"""Modules inserted into a component of a model: where they go, and how strong they are in each row of a batch."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from efface.core.errors import EffaceError
from efface.models.batch_rows import BatchRows, rows_of
from efface.models.conditioning import Conditioning
from efface.models.tensor_names import canonical_name

from .forward_hooks import TEXT_INPUT
from .gates import Gate
from .inserted_layers import InsertedLayer
from .row_strengths import Insertion, RowStrengths


class InsertedModules:
    """The modules that edits insert into one component.

    Args:
        component: the component, such as the UNet.
    """

    def __init__(self, component: nn.Module) -> None:
        self._layers: dict[str, InsertedLayer] = {}
        self._insertions: list[Insertion] = []
        self._strengths = RowStrengths()
        self._pass: tuple[Any, ...] = ()
        self._mergeable: list[InsertedLayer] = []
        names = list(inspect.signature(component.forward).parameters)
        self._text_index = names.index(TEXT_INPUT) if TEXT_INPUT in names else -1
        self._handles: list[Any] = []

    def add(self, component: nn.Module, insertion: Insertion, layers: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Inserts an edit's modules.

        Args:
            component: the component.
            insertion: the edit's settings.
            layers: tensors of the module at each layer, by the layer's path in the component.
        """
        if not self._insertions and self._text_index >= 0:  # ahead of edits that change the states
            self._handles = [
                component.register_forward_pre_hook(self._before_pass, with_kwargs=True, prepend=True),
                component.register_forward_hook(self._after_pass, always_call=True),
            ]
        self._insertions.append(insertion)
        self.forget()
        for path, tensors in layers.items():
            if path not in self._layers:
                self._layers[path] = InsertedLayer(component.get_submodule(path), self._strengths)
            self._layers[path].add(insertion, tensors)

    def remove(self, insertion: Insertion) -> None:
        """Removes an edit's modules, and all hooks with the last."""
        self._insertions.remove(insertion)
        self.forget()
        for path, layer in list(self._layers.items()):
            layer.remove(insertion)
            if not layer.members:
                del self._layers[path]
        while self._handles and not self._insertions:
            self._handles.pop().remove()

    @property
    def insertions(self) -> tuple[Insertion, ...]:
        """The edits' insertions, in the order in which they were added."""
        return tuple(self._insertions)

    def forget(self) -> None:
        """Computes the strengths again at the next pass."""
        self._pass = ()

    def _before_pass(self, component: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states = kwargs[TEXT_INPUT] if TEXT_INPUT in kwargs else args[self._text_index]
        rows = rows_of(component)
        rows = rows if rows is not None and rows.num_rows == len(states) else None
        version = 0 if states.is_inference() else states._version
        prompts, chunks = (None, ()) if rows is None else (rows.cond.states, rows.chunks)
        enabled = [insertion.enabled for insertion in self._insertions]
        before = self._pass
        if not (before and before[0] is states and before[1] is prompts and before[2:] == (version, chunks, enabled)):
            self._pass = (states, prompts, version, chunks, enabled)
            self._strengths.set(self._compute(states, rows))
            self._mergeable = [layer for layer in self._layers.values() if layer.is_mergeable()]
            for layer in self._mergeable:
                layer.forget_merged()
        if self._strengths.uniform and not torch.is_grad_enabled():
            for layer in self._mergeable:
                layer.merge()

    def _after_pass(self, _component: nn.Module, _inputs: Any, _output: Any) -> None:
        for layer in self._mergeable:
            layer.unmerge()

    @torch.no_grad()
    def _compute(self, states: Tensor, rows: BatchRows | None) -> dict[Insertion, Tensor]:
        """Computes the strengths in the present batch, by gate and by adapter."""
        cond = Conditioning(states.detach(), states.detach()[:, 0])
        values: dict[Insertion, Tensor] = {}
        of_gate: dict[int, Tensor] = {}
        for insertion in self._insertions:
            gate = insertion.gate
            if isinstance(gate, Gate) and id(gate) not in of_gate:
                of_gate[id(gate)] = (
                    gate.row_strengths(cond) if rows is None else gate.strengths(rows.cond).repeat(len(rows.chunks))
                )
            strength = of_gate.get(id(gate))
            if insertion.adapter and rows is not None and any(insertion.adapter in off for off in rows.chunks):
                active = rows.active(insertion.adapter)
                strength = active if strength is None else strength * active
            if strength is not None:
                values[insertion] = strength
        return values


_INSERTED: WeakKeyDictionary[nn.Module, InsertedModules] = WeakKeyDictionary()


def inserted_modules(component: nn.Module) -> InsertedModules:
    """Returns the object that holds all modules inserted into a component."""
    if component not in _INSERTED:
        _INSERTED[component] = InsertedModules(component)
    return _INSERTED[component]


def inserted_adapters(components: Mapping[str, nn.Module]) -> set[str]:
    """Returns the names of the adapters in a model's components."""
    inserted = [_INSERTED[component] for component in components.values() if component in _INSERTED]
    return {insertion.adapter for modules in inserted for insertion in modules.insertions if insertion.adapter}


def forget_row_strengths(component: nn.Module) -> None:
    """Computes the strengths of a component's modules again at the next pass, after a change of the model."""
    if component in _INSERTED:
        _INSERTED[component].forget()


def resolve_layer(component: nn.Module, name: str, title: str) -> str:
    """Returns the path of a layer that an edit names.

    Args:
        component: the component.
        name: canonical name of the layer.
        title: the component's name and the kind of the module, for the message.

    Raises:
        EffaceError: the component has no such layer; the message suggests the nearest.
    """
    paths = {canonical_name(path): path for path, _ in component.named_modules() if path}
    if canonical_name(name) in paths:
        return paths[canonical_name(name)]
    near = difflib.get_close_matches(canonical_name(name), paths, n=1, cutoff=0.0)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    raise EffaceError(f"the erasure inserts {title} at {name!r}, which the model lacks{hint}")
