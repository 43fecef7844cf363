"""Exchange of bytes and CPU tensors among processes, through gloo, for every kind of device.

Every process runs the same command on the same files. Nothing is pickled: bytes are sent as tensors. All exchanges use
one process group with a timeout of days, because one process may search for hours while the others wait.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache

import torch
import torch.distributed as dist
from torch import Tensor

from efface.core.errors import EffaceError

from . import env

_TIMEOUT = timedelta(days=7)
_MESSAGE_BYTES = 1000  # maximum length of an error message
_EXIT_WAIT = 5.0  # seconds


@lru_cache(maxsize=1)
def process_group() -> dist.ProcessGroup:
    """Returns the group of all processes, made on first use; keeps a default group that a script has made."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_TIMEOUT)
    group = dist.new_group(backend="gloo", timeout=_TIMEOUT)
    assert isinstance(group, dist.ProcessGroup)  # every process is in it
    return group


def claim_error_report() -> bool:
    """Tells whether this process is the first to fail and so reports the error.

    Returns False if the first process, which counts the failures, has already ended.
    """
    if not dist.is_initialized():
        return env.is_main()
    if env.is_main():
        atexit.register(_wait_for_peers)
    return _count_failures(1, int(not env.is_main()) + 1) == 1


def _count_failures(added: int, default: int) -> int:
    """Adds to the number of failed processes and returns it, or the default if the counting first process has ended."""
    try:
        return int(dist.distributed_c10d._get_default_store().add("efface/failed", added))
    except (RuntimeError, ValueError):
        return default


def _wait_for_peers() -> None:
    """Delays the end of the first process, which counts the failures, until the others have failed too."""
    deadline = time.monotonic() + _EXIT_WAIT
    while _count_failures(0, env.world_size()) < env.world_size() and time.monotonic() < deadline:
        time.sleep(0.02)


def broadcast_bytes(data: bytes) -> bytes:
    """Returns the first process's bytes in every process."""
    if env.world_size() == 1:
        return data
    length = torch.tensor([len(data)])
    dist.broadcast(length, 0, group=process_group())
    payload = (
        torch.frombuffer(bytearray(data), dtype=torch.uint8)
        if env.is_main() and data
        else torch.zeros(int(length), dtype=torch.uint8)
    )
    if len(payload):
        dist.broadcast(payload, 0, group=process_group())
    return payload.numpy().tobytes()


def broadcast_tensor(tensor: Tensor) -> Tensor:
    """Returns the first process's tensor in every process; overwrites the others' tensors of equal shape and type."""
    if env.world_size() > 1:
        dist.broadcast(tensor, 0, group=process_group())
    return tensor


def gather_tensor(tensor: Tensor) -> list[Tensor]:
    """Returns the tensors of all processes by rank in the first process, and an empty list in the others.

    All tensors must have the same shape and type.
    """
    if env.world_size() == 1:
        return [tensor]
    rows = [torch.empty_like(tensor) for _ in range(env.world_size())] if env.is_main() else None
    dist.gather(tensor.contiguous(), rows, 0, group=process_group())
    return rows or []


@contextmanager
def sync_errors() -> Iterator[None]:
    """Ends the body in all processes together: if any raises an `EffaceError`, all raise the one of the lowest rank."""
    if env.world_size() == 1:
        yield
        return
    own_error: EffaceError | None = None
    try:
        yield
    except EffaceError as error:
        own_error = error
    messages = _gather_messages("" if own_error is None else str(own_error))
    failed = [number for number, message in enumerate(messages) if message]
    if own_error is not None and failed[0] == env.rank():
        raise own_error
    if failed:
        raise EffaceError(messages[failed[0]]) from own_error


def _gather_messages(message: str) -> list[str]:
    """Returns every process's message, by rank."""
    data = message.encode()[:_MESSAGE_BYTES]
    padded = torch.tensor([*data, *[0] * (_MESSAGE_BYTES - len(data))], dtype=torch.uint8)
    rows = [torch.empty_like(padded) for _ in range(env.world_size())]
    dist.all_gather(rows, padded, group=process_group())
    return [row.numpy().tobytes().rstrip(b"\0").decode(errors="ignore") for row in rows]
