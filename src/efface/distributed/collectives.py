"""What several processes tell each other: bytes and images in the processor's memory, through gloo, whatever the devices are.

Every process runs the same command on the same files. No object is pickled: bytes go as tensors. There is one group for this, with a
timeout of days, since one process may search for hours while the others wait.
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

_WAIT = timedelta(days=7)
_LINE = 1000  # bytes of an error's line
_STAY = 5.0  # seconds


@lru_cache(maxsize=1)
def process_group() -> dist.ProcessGroup:
    """The group of all processes, made at the first use in each; one that a script made before stays as it is."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_WAIT)
    made = dist.new_group(backend="gloo", timeout=_WAIT)
    assert isinstance(made, dist.ProcessGroup)  # every process is in it
    return made


def claim_error_report() -> bool:
    """Whether no other process has asked this before: who may say what went wrong. False where the first process is gone already."""
    if not dist.is_initialized():
        return env.is_main()
    if env.is_main():
        atexit.register(_wait_for_peers)
    return _failed(1, int(not env.is_main()) + 1) == 1


def _failed(more: int, otherwise: int) -> int:
    """How many processes have failed, with these; ``otherwise`` where the first one, which counts them, is gone."""
    try:
        return int(dist.distributed_c10d._get_default_store().add("efface/failed", more))
    except (RuntimeError, ValueError):
        return otherwise


def _wait_for_peers() -> None:
    """The first process counts: it stays for a moment while the others come to know that something failed."""
    until = time.monotonic() + _STAY
    while _failed(0, env.world_size()) < env.world_size() and time.monotonic() < until:
        time.sleep(0.02)


def broadcast_bytes(data: bytes) -> bytes:
    """What the first process gives, in every process."""
    if env.world_size() == 1:
        return data
    length = torch.tensor([len(data)])
    dist.broadcast(length, 0, group=process_group())
    sent = (
        torch.frombuffer(bytearray(data), dtype=torch.uint8)
        if env.is_main() and data
        else torch.zeros(int(length), dtype=torch.uint8)
    )
    if len(sent):
        dist.broadcast(sent, 0, group=process_group())
    return sent.numpy().tobytes()


def broadcast_tensor(tensor: Tensor) -> Tensor:
    """What the first process gives, in every process; the others give one of the same shape and type, which is overwritten."""
    if env.world_size() > 1:
        dist.broadcast(tensor, 0, group=process_group())
    return tensor


def gather_tensor(tensor: Tensor) -> list[Tensor]:
    """In the first process what every process gives, by rank; an empty list in the others. All shapes and types are the same."""
    if env.world_size() == 1:
        return [tensor]
    rows = [torch.empty_like(tensor) for _ in range(env.world_size())] if env.is_main() else None
    dist.gather(tensor.contiguous(), rows, 0, group=process_group())
    return rows or []


@contextmanager
def sync_errors() -> Iterator[None]:
    """Ends the body in all processes together: where one of them raises an `EffaceError`, all do, with the first one's line."""
    if env.world_size() == 1:
        yield
        return
    own: EffaceError | None = None
    try:
        yield
    except EffaceError as error:
        own = error
    said = _lines("" if own is None else str(own))
    failed = [number for number, line in enumerate(said) if line]
    if own is not None and failed[0] == env.rank():
        raise own
    if failed:
        raise EffaceError(said[failed[0]]) from own


def _lines(line: str) -> list[str]:
    """Every process's line, by rank."""
    data = line.encode()[:_LINE]
    own = torch.tensor([*data, *[0] * (_LINE - len(data))], dtype=torch.uint8)
    rows = [torch.empty_like(own) for _ in range(env.world_size())]
    dist.all_gather(rows, own, group=process_group())
    return [row.numpy().tobytes().rstrip(b"\0").decode(errors="ignore") for row in rows]
