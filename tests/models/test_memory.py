"""Out-of-memory errors become one line; other errors pass unchanged."""

from __future__ import annotations

import pytest
import torch

from efface.core.errors import EffaceError
from efface.models.memory import oom_as_user_error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        OSError("Cannot allocate memory"),
    ],
)
def test_memory_errors_name_the_cure(error):
    with pytest.raises(EffaceError, match=r"^out of memory: lower batch_size$"), oom_as_user_error("lower batch_size"):
        raise error


def test_other_errors_pass_unchanged():
    with pytest.raises(RuntimeError, match="shapes"), oom_as_user_error("lower batch_size"):
        raise RuntimeError("shapes differ")
