"""What an attack found, in every process: one searches, for two searches on two devices need not find the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from efface.core import ranks
from efface.core.attack_set import AttackSet
from efface.core.io import curable
from efface.models.processes import in_step, shared_bytes


@contextmanager
def found_once(artifact: Path, search: Callable[[], AttackSet]) -> Iterator[AttackSet]:
    """The attack set that the first process searches for, read by the others from a folder in the artifact that goes at the end.

    Raises:
        EffaceError: in every process, what the search raised.
    """
    if ranks.size() == 1:
        yield search()
        return
    made: AttackSet | None = None
    with tempfile.TemporaryDirectory(prefix=".found-", dir=artifact) if ranks.is_main() else _none() as place:
        with in_step():
            if ranks.is_main():
                with ranks.alone():
                    made = search()
                with curable(artifact, "write"):
                    made.save(Path(place) / "set")
        where = Path(shared_bytes(str(place).encode()).decode()) / "set"
        with in_step():
            made = made or AttackSet.load(where)
        yield made
        with in_step():  # the folder goes when nobody reads it
            pass


@contextmanager
def _none() -> Iterator[str]:
    yield ""
