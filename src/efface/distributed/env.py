"""The position of this process among several, from the environment that `torchrun` and `accelerate launch` set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from efface.core.errors import EffaceError

_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_single_process = False


def world_size() -> int:
    """Returns the number of processes; 1 without a launcher and inside `single_process`."""
    return 1 if _single_process else _read_number("WORLD_SIZE", 1)


def rank() -> int:
    """Returns the number of this process among all, counted from 0."""
    return _read_number("RANK", 0) if world_size() > 1 else 0


def local_rank() -> int:
    """Returns the number of this process among those on this machine."""
    return _read_number("LOCAL_RANK", rank()) if world_size() > 1 else 0


def is_main() -> bool:
    """Tells whether this process is the one that writes and prints."""
    return rank() == 0


@contextmanager
def single_process() -> Iterator[None]:
    """Lets this process do all work of the body itself instead of sharing it."""
    global _single_process
    before, _single_process = _single_process, True
    try:
        yield
    finally:
        _single_process = before


def _read_number(name: str, default: int) -> int:
    if any(not os.environ.get(key) for key in _LAUNCHER_VARIABLES):
        return default
    try:
        return int(os.environ.get(name, default))
    except ValueError as error:
        raise EffaceError(
            f"{name}={os.environ[name]!r} is not a number: let torchrun or accelerate launch set it"
        ) from error
