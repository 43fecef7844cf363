"""Passes of a model as if no erasure were applied to its weights, no module inserted and no state changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakSet

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from .inserted_modules import inserted_modules

_ORIGINALS: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""By written parameter, its values before each write, the oldest first."""
_SWITCHED_OFF: WeakSet[nn.Module] = WeakSet()
"""Components whose states no edit changes at the moment."""


def remember(parameter: Tensor, before: Tensor) -> None:
    """Records the values of a parameter before an edit writes to it."""
    _ORIGINALS.setdefault(parameter, []).append(before)


def forget(parameter: Tensor) -> None:
    """Drops the last record of a parameter, when the edit is undone."""
    values = _ORIGINALS[parameter]
    values.pop()
    if not values:
        del _ORIGINALS[parameter]


def unedited_params(component: nn.Module) -> dict[str, Tensor]:
    """Returns the original values of the parameters that edits have written, for ``params=`` of a pass."""
    return {name: _ORIGINALS[p][0] for name, p in component.named_parameters() if p in _ORIGINALS}


def switchable(component: nn.Module, change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Returns a change of a component's states that `without_insertions` switches off."""

    def change_if_on(states: Tensor) -> Tensor:
        return states if component in _SWITCHED_OFF else change(states)

    return change_if_on


@contextmanager
def without_insertions(component: nn.Module) -> Iterator[None]:
    """Switches off all modules inserted into a component, and all changes of its states."""
    insertions = inserted_modules(component).insertions
    before = [insertion.enabled for insertion in insertions]
    for insertion in insertions:
        insertion.enabled = False
    was_off = component in _SWITCHED_OFF
    _SWITCHED_OFF.add(component)
    try:
        yield
    finally:
        for insertion, enabled in zip(insertions, before, strict=True):
            insertion.enabled = enabled
        if not was_off:
            _SWITCHED_OFF.discard(component)
