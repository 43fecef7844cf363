"""Measures a long sequence of images chunk by chunk; each chunk is saved, so an interrupted study continues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from efface.core.io import atomic_write_bytes
from efface.distributed import env
from efface.distributed.collectives import sync_errors
from efface.ops.training.progress import Progress

Item = TypeVar("Item")
CHUNK_SIZE = 64
"""Number of items per chunk."""


def _no_values(_: dict[str, Tensor]) -> dict[str, float]:
    return {}


def measure_in_chunks(
    folder: Path,
    name: str,
    items: Sequence[Item],
    measure: Callable[[Sequence[Item]], dict[str, Tensor]],
    progress: Progress,
    summarize: Callable[[dict[str, Tensor]], dict[str, float]] = _no_values,
) -> dict[str, Tensor]:
    """Measures all items: reads the saved chunks and computes the others.

    Several processes measure alternate chunks; all of them must see the same folder.

    Args:
        folder: folder of the chunks, ``<name>-<number>.safetensors``.
        name: name of the measurement; the progress display shows it.
        items: the items to measure.
        measure: returns tensors ``(n, ...)`` for n items, by name.
        progress: progress display.
        summarize: numbers for the progress display, from a chunk's tensors.

    Returns:
        Tensors ``(N, ...)`` for all N items, by name.
    """
    paths = [folder / f"{name}-{number:05d}.safetensors" for number in range(-(-len(items) // CHUNK_SIZE))]
    progress.start(name, len(items), 0)
    try:
        with sync_errors():
            for number in range(env.rank(), len(paths), env.world_size()):
                path, end = paths[number], (number + 1) * CHUNK_SIZE
                if not path.is_file():
                    tensors = measure(items[number * CHUNK_SIZE : end])
                    atomic_write_bytes(path, save({key: value.contiguous() for key, value in tensors.items()}))
                progress.update(min(end, len(items)), summarize(load_file(path)))
    finally:
        progress.stop()
    chunks = [load_file(path) for path in paths]
    return {key: torch.cat([chunk[key] for chunk in chunks]) for key in chunks[0]}
