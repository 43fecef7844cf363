"""A long stream of images measured chunk by chunk: each chunk is a file, so that a study that was killed goes on where it stopped."""

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
SIZE = 64
"""Images in a chunk."""


def measure_in_chunks(
    folder: Path, name: str, items: Sequence[Item], measure: Callable[[Sequence[Item]], dict[str, Tensor]], progress: Progress,
    shown: Callable[[dict[str, Tensor]], dict[str, float]] = lambda _: {},
) -> dict[str, Tensor]:  # fmt: skip
    """What ``measure`` gives for all items, by name and with the items first: from the chunks that are there, and for the rest anew.

    Of several processes, each measures chunks in turn; the folder is one that all of them see.

    Args:
        folder: where the chunks lie, as ``<name>-<number>.safetensors``.
        name: what is streamed, for the progress bar, too.
        items: what to measure.
        measure: tensors ``(n, ...)`` of n items.
        progress: where to show how far it is.
        shown: numbers for the bar, from a chunk's tensors.
    """
    paths = [folder / f"{name}-{number:05d}.safetensors" for number in range(-(-len(items) // SIZE))]
    progress.start(name, len(items), 0)
    try:
        with sync_errors():
            for number in range(env.rank(), len(paths), env.world_size()):
                path, end = paths[number], (number + 1) * SIZE
                if not path.is_file():
                    tensors = {key: value.contiguous() for key, value in measure(items[number * SIZE : end]).items()}
                    atomic_write_bytes(path, save(tensors))
                progress.update(min(end, len(items)), shown(load_file(path)))
    finally:
        progress.stop()
    chunks = [load_file(path) for path in paths]
    return {key: torch.cat([chunk[key] for chunk in chunks]) for key in chunks[0]}
