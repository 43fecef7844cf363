"""Runs an attack's search in parts that are saved, so that an interrupted search continues."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from efface.core.attack_set import AttackSet, AttackTask
from efface.core.serialization import json_hash, to_jsonable
from efface.distributed.attack_search import merge_attack_sets
from efface.ops.training.progress import Progress

SMALLEST_PART = 4
"""Smallest number of prompts of a part."""

Search = Callable[[Sequence[AttackTask], Progress | None], AttackSet]


def search_in_parts(
    search: Search, tasks: Sequence[AttackTask], batch_size: int, folder: Path, progress: Progress | None
) -> AttackSet:
    """Returns the attack set of all tasks; parts that the folder holds from an interrupted search are read.

    Args:
        search: finds prompts for some of the tasks, in their order.
        tasks: all tasks.
        batch_size: number of tasks that are searched together; their prompts do not depend on other batches.
        folder: folder of the parts, which belongs to one search with fixed settings.
        progress: progress display of the whole search.
    """
    size = batch_size * -(-SMALLEST_PART // batch_size)
    found = []
    for start in range(0, len(tasks), size):
        part = tasks[start : start + size]
        path = folder / json_hash(to_jsonable(list(part)))[:16]
        if not path.is_dir():
            search(part, progress and PartProgress(progress, start, len(tasks))).save(path)
        found.append(AttackSet.load(path, allow_refused=True))
    return merge_attack_sets(found, tasks)


def remove_parts(folder: Path) -> None:
    """Removes the parts of a search whose result is saved."""
    shutil.rmtree(folder, ignore_errors=True)


class PartProgress:
    """Shows the progress of one part as that of the whole.

    Args:
        whole: display of the whole.
        offset: number of steps before this part.
        total: number of steps of all parts.
    """

    def __init__(self, whole: Progress, offset: int, total: int) -> None:
        self._whole = whole
        self._offset = offset
        self._total = total

    def start(self, phase: str, total: int, done: int) -> None:
        """A part begins."""
        self._whole.start(phase, self._total, self._offset + done)

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """Steps of the part are complete."""
        self._whole.update(self._offset + done, losses)

    def stop(self) -> None:
        """The part ended."""
        self._whole.stop()

    def note(self, text: str) -> None:
        """Shows one line."""
        self._whole.note(text)
