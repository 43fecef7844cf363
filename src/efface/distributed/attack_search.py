"""Shares an attack's search among processes, so that all of them have the same attack set.

Two searches on two devices may find different prompts. Each search therefore runs once, and every process reads its
result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from efface.core.attack_set import AttackSet, AttackTask
from efface.core.io import user_file_errors

from . import env
from .collectives import broadcast_bytes, sync_errors

Search = Callable[[Sequence[AttackTask]], AttackSet]


@contextmanager
def search_distributed(
    artifact: Path, search: Search, tasks: Sequence[AttackTask], batch_size: int | None = None
) -> Iterator[AttackSet]:
    """Yields the attack set of all tasks, equal to the result of one process.

    The processes exchange their sets through a temporary folder in the artifact, which the end of the body removes.

    Args:
        artifact: the erasure's folder.
        search: finds prompts for some of the tasks, in their order.
        tasks: all tasks.
        batch_size: number of tasks that are searched together; the processes share the batches. None: the first process
            searches alone.

    Raises:
        EffaceError: in every process, the error of any search.
    """
    if env.world_size() == 1:
        yield search(tasks)
        return
    own_tasks = local_tasks(tasks, batch_size, env.rank(), env.world_size())
    with tempfile.TemporaryDirectory(prefix=".found-", dir=artifact) if env.is_main() else _no_folder() as name:
        folder = Path(broadcast_bytes(str(name).encode()).decode())
        with sync_errors():
            rank = env.rank()
            with env.single_process():
                attack_set = search(own_tasks) if own_tasks else None
            if attack_set:
                with user_file_errors(artifact, "write"):
                    attack_set.save(folder / f"{rank:06}")
        with sync_errors():
            merged = merge_attack_sets([AttackSet.load(path) for path in sorted(folder.iterdir())], tasks)
        yield merged
        with sync_errors():  # waits until no process reads the folder any more
            pass


def local_tasks(tasks: Sequence[AttackTask], batch_size: int | None, rank: int, size: int) -> Sequence[AttackTask]:
    """Returns every ``size``-th batch of the tasks, starting with batch ``rank``.

    Without a batch size, rank 0 gets all tasks and the others none.
    """
    if batch_size is None:
        return tasks if rank == 0 else ()
    starts = range(rank * batch_size, len(tasks), size * batch_size)
    return [task for start in starts for task in tasks[start : start + batch_size]]


def merge_attack_sets(attack_sets: Sequence[AttackSet], tasks: Sequence[AttackTask]) -> AttackSet:
    """Merges attack sets in the order of the tasks; its seconds are the sum of all."""
    order = {(task.prompt, task.seed): number for number, task in enumerate(tasks)}
    prompts = [prompt for attack_set in attack_sets for prompt in attack_set.prompts]
    if len(attack_sets) > 1:
        prompts.sort(key=lambda prompt: order[prompt.source_prompt, prompt.seed])
    first = attack_sets[0]
    budget = replace(first.budget, seconds=sum(attack_set.budget.seconds for attack_set in attack_sets))
    return replace(first, prompts=tuple(prompts), budget=budget, folder=None)


@contextmanager
def _no_folder() -> Iterator[str]:
    yield ""
