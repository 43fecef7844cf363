"""A long stream of pictures measured chunk by chunk: each chunk is a file, so that a study that was killed goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from efface.core.io import atomic_write_bytes
from efface.ops.progress import Progress

Item = TypeVar("Item")
SIZE = 64
"""Pictures in a chunk."""


def streamed(
    folder: Path, name: str, items: Sequence[Item], measure: Callable[[Sequence[Item]], dict[str, Tensor]], progress: Progress,
    shown: Callable[[dict[str, Tensor]], dict[str, float]] = lambda _: {},
) -> dict[str, Tensor]:  # fmt: skip
    """What ``measure`` gives for all items, by name and with the items first: from the chunks that are there, and for the rest anew.

    Args:
        folder: where the chunks lie, as ``<name>-<number>.safetensors``.
        name: what is streamed, for the progress bar, too.
        items: what to measure.
        measure: tensors ``(n, ...)`` of n items.
        progress: where to show how far it is.
        shown: numbers for the bar, from a chunk's tensors.
    """
    chunks: list[dict[str, Tensor]] = []
    progress.start(name, len(items), 0)
    try:
        for start in range(0, len(items), SIZE):
            path = folder / f"{name}-{start // SIZE:05d}.safetensors"
            if not path.is_file():
                tensors = {key: value.contiguous() for key, value in measure(items[start : start + SIZE]).items()}
                atomic_write_bytes(path, save(tensors))
            chunks.append(load_file(path))
            progress.update(min(start + SIZE, len(items)), shown(chunks[-1]))
    finally:
        progress.stop()
    return {key: torch.cat([chunk[key] for chunk in chunks]) for key in chunks[0]}
