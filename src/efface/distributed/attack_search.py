"""What an attack found, in every process: two searches on two devices need not find the same, so each is made once and told to all."""

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
    artifact: Path, search: Search, tasks: Sequence[AttackTask], batch: int | None = None
) -> Iterator[AttackSet]:
    """The attack set of all tasks, as one process would have found it; it is told in a folder in the artifact that goes at the end.

    Args:
        artifact: the erasure's folder.
        search: finds prompts for some of the tasks, in their order.
        tasks: all of them.
        batch: so many are searched together, and the batches are shared out; None: the first process searches alone.

    Raises:
        EffaceError: in every process, what a search raised.
    """
    if env.world_size() == 1:
        yield search(tasks)
        return
    own = local_tasks(tasks, batch, env.rank(), env.world_size())
    with tempfile.TemporaryDirectory(prefix=".found-", dir=artifact) if env.is_main() else _none() as place:
        where = Path(broadcast_bytes(str(place).encode()).decode())
        with sync_errors():
            rank = env.rank()
            with env.single_process():
                made = search(own) if own else None
            if made:
                with user_file_errors(artifact, "write"):
                    made.save(where / f"{rank:06}")
        with sync_errors():
            whole = merge_attack_sets([AttackSet.load(part) for part in sorted(where.iterdir())], tasks)
        yield whole
        with sync_errors():  # the folder goes when nobody reads it
            pass


def local_tasks(tasks: Sequence[AttackTask], batch: int | None, rank: int, size: int) -> Sequence[AttackTask]:
    """Every ``size``-th batch of the tasks, from the ``rank``-th on; all of them or none where they are searched together."""
    if batch is None:
        return tasks if rank == 0 else ()
    return [task for start in range(rank * batch, len(tasks), size * batch) for task in tasks[start : start + batch]]


def merge_attack_sets(parts: Sequence[AttackSet], tasks: Sequence[AttackTask]) -> AttackSet:
    """One set of several, in the tasks' order; it took the seconds of all."""
    at = {(task.prompt, task.seed): number for number, task in enumerate(tasks)}
    prompts = [prompt for part in parts for prompt in part.prompts]
    if len(parts) > 1:
        prompts.sort(key=lambda found: at[found.source_prompt, found.seed])
    budget = replace(parts[0].budget, seconds=sum(part.budget.seconds for part in parts))
    return replace(parts[0], prompts=tuple(prompts), budget=budget, folder=None)


@contextmanager
def _none() -> Iterator[str]:
    yield ""
