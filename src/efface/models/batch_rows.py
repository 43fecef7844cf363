"""What the rows of a denoiser's batch are: the prompts that images are generated for, and adapters that are off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from .conditioning import Conditioning

T = TypeVar("T")
ALL_ON: frozenset[str] = frozenset()
"""The adapters that are off in a chunk in which all are on."""


@dataclass(frozen=True, eq=False)
class BatchRows:
    """The layout of a batch: chunks of B rows, one row for each image.

    Attributes:
        cond: conditioning of the B prompts. All chunks of an image take the gates' strengths of its prompt, those of
            the unconditional prediction too.
        chunks: names of the adapters that are off in each chunk.
    """

    cond: Conditioning
    chunks: tuple[frozenset[str], ...]

    @property
    def num_rows(self) -> int:
        """Number of rows of the batch."""
        return len(self.cond.states) * len(self.chunks)

    def active(self, adapter: str) -> Tensor:
        """Returns 1 for the rows in which an adapter is on, else 0, ``(N,)``."""
        on = self.cond.states.new_tensor([float(adapter not in off) for off in self.chunks])
        return on.repeat_interleave(len(self.cond.states))


_ANNOUNCED: WeakKeyDictionary[nn.Module, BatchRows] = WeakKeyDictionary()
_OFF: WeakKeyDictionary[nn.Module, frozenset[str]] = WeakKeyDictionary()


@contextmanager
def announced_rows(denoiser: nn.Module, rows: BatchRows) -> Iterator[None]:
    """Tells the modules inserted into a denoiser what the rows of its next batches are."""
    off = _OFF.get(denoiser, ALL_ON)
    with _set(_ANNOUNCED, denoiser, replace(rows, chunks=tuple(chunk | off for chunk in rows.chunks))):
        yield


@contextmanager
def adapters_off(denoiser: nn.Module, adapters: frozenset[str]) -> Iterator[None]:
    """Switches adapters off in all rows that the samplers announce."""
    with _set(_OFF, denoiser, _OFF.get(denoiser, ALL_ON) | adapters):
        yield


def rows_of(denoiser: nn.Module) -> BatchRows | None:
    """Returns the layout that was announced; None for batches of other callers, such as a diffusers pipeline."""
    return _ANNOUNCED.get(denoiser)


@contextmanager
def _set(values: WeakKeyDictionary[nn.Module, T], denoiser: nn.Module, value: T) -> Iterator[None]:
    before = values.get(denoiser)
    values[denoiser] = value
    try:
        yield
    finally:
        if before is None:
            del values[denoiser]
        else:
            values[denoiser] = before
