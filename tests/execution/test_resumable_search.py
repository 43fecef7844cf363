"""An interrupted search continues with the parts that it saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.execution.resumable_search import remove_parts, search_in_parts
from efface.ops.training.progress import Progress, Silent

TASKS = [AttackTask(f"a gun {i}", "{}", i) for i in range(10)]


class Steps(Silent):
    """Remembers the phases and steps."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def start(self, phase: str, total: int, done: int) -> None:
        self.seen.append((total, done))

    def update(self, done: int, losses: object) -> None:
        self.seen.append((done,))


class Searcher:
    """Finds one prompt for each task, and is interrupted at a call."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        self.calls: list[int] = []
        self.interrupted_at = interrupted_at

    def __call__(self, tasks: Sequence[AttackTask], progress: Progress | None) -> AttackSet:
        if len(self.calls) == self.interrupted_at:
            raise KeyboardInterrupt
        self.calls.append(len(tasks))
        if progress:
            progress.start("search", len(tasks), 0)
            progress.update(len(tasks), {})
        rows = tuple(AttackPrompt(task.prompt, f"{task.prompt} x", task.seed) for task in tasks)
        return AttackSet("synonyms", Concept("gun"), rows, budget=Budget(3, 1.0))


def test_a_search_continues_after_its_last_saved_part(tmp_path: Path) -> None:
    complete = search_in_parts(Searcher(), TASKS, 3, tmp_path / "one", None)
    with pytest.raises(KeyboardInterrupt):
        search_in_parts(Searcher(interrupted_at=1), TASKS, 3, tmp_path / "two", None)
    second, steps = Searcher(), Steps()
    resumed = search_in_parts(second, TASKS, 3, tmp_path / "two", steps)
    assert second.calls == [4], "the part of six was read"
    assert steps.seen == [(10, 6), (10,)], "progress counts all tasks"
    assert resumed == complete
    assert [row.seed for row in resumed.prompts] == list(range(10))
    remove_parts(tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_parts_hold_whole_batches_and_belong_to_their_tasks(tmp_path: Path) -> None:
    searcher = Searcher()
    search_in_parts(searcher, TASKS, 1, tmp_path, None)
    assert searcher.calls == [4, 4, 2]
    search_in_parts(searcher, TASKS[2:], 1, tmp_path, None)
    assert searcher.calls == [4, 4, 2, 4, 4], "other parts are searched again"
