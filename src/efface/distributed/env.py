"""Whether this process is one of several that `torchrun` or `accelerate launch` started, by the environment that both set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from efface.core.errors import EffaceError

_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_alone = False


def world_size() -> int:
    """How many processes work together; 1 without a launcher, and while `alone`."""
    return 1 if _alone else _number("WORLD_SIZE", 1)


def rank() -> int:
    """Which of them this one is, from 0 on."""
    return _number("RANK", 0) if world_size() > 1 else 0


def local_rank() -> int:
    """Which of those on this machine this one is."""
    return _number("LOCAL_RANK", rank()) if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this process is the one that writes and prints."""
    return rank() == 0


@contextmanager
def single_process() -> Iterator[None]:
    """For the body, this process does on its own what it would share out otherwise."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def _number(name: str, otherwise: int) -> int:
    if any(not os.environ.get(key) for key in _LAUNCHED):
        return otherwise
    try:
        return int(os.environ.get(name, otherwise))
    except ValueError as error:
        raise EffaceError(
            f"{name}={os.environ[name]!r} is no number: let torchrun or accelerate launch set it"
        ) from error
