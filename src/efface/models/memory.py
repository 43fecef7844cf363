"""Out-of-memory errors as one line that names what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from efface.core.errors import EffaceError

_MESSAGES = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def is_memory_error(error: BaseException) -> bool:
    """Returns whether an error reports too little memory, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(message in str(error).lower() for message in _MESSAGES)


@contextmanager
def oom_as_user_error(cure: str) -> Iterator[None]:
    """Turns an out-of-memory error of the body into an `EffaceError` that names the cure.

    Args:
        cure: what the user can do, such as ``lower batch_size``.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_memory_error(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise EffaceError(f"out of memory: {cure}") from error
