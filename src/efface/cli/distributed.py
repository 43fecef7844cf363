"""The command line in one of several processes: the first alone prints, and one line says what went wrong, whichever it went wrong in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import torch.distributed as dist

from efface.distributed import env
from efface.distributed.collectives import claim_error_report, process_group


def run_distributed(run: Callable[[], object]) -> None:
    """Runs the command in this process; where it fails in several at once, all but one end without a word.

    Raises:
        SystemExit: with 2, where another process says what went wrong. Whatever else the command raised, where this one is to say it.
    """
    try:
        dist.barrier(process_group())  # all know of each other before anything can fail in one alone
        if env.is_main():
            run()
            return
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            run()
    except SystemExit as end:
        if end.code and not env.is_main():
            sys.exit(end.code)  # an option that is none: the first process says so
        raise
    except BaseException:
        if not claim_error_report():
            sys.exit(2)
        raise
