"""The command line in one of several processes: only the main one prints, and one line reports an error of any."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import torch.distributed as dist

from efface.distributed import env
from efface.distributed.collectives import claim_error_report, process_group


def run_distributed(run: Callable[[], object]) -> None:
    """Runs a command in this process; if it fails in several processes, only one of them reports the error.

    Raises:
        SystemExit: code 2 in a process whose error another one reports.
        BaseException: the command's own error in the process that reports it.
    """
    try:
        dist.barrier(process_group())  # all processes have joined before one of them can fail alone
        if env.is_main():
            run()
            return
        with open(os.devnull, "w", encoding="utf-8") as devnull, redirect_stdout(devnull), redirect_stderr(devnull):
            run()
    except SystemExit as end:
        if end.code and not env.is_main():
            sys.exit(end.code)  # a wrong option: the main process reports it
        raise
    except BaseException:
        if not claim_error_report():
            sys.exit(2)
        raise
