"""Processes forked from one that has already imported the slow modules, which spares each of them 8 seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import torch

PRELOADED = ("efface.api", "efface.benchmarks.runner", "efface.models.pipeline")


def start(function: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """Starts a function, which a module must define, in a process of its own."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as the command line does, before torch is imported
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    process = context.Process(target=function, args=arguments)
    process.start()
    return process


def redirect(output: Path) -> None:
    """Lets this process write its output and errors to ``output.out`` and ``output.err``."""
    for suffix, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{output}.{suffix}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), descriptor)


def run_command(arguments: tuple[object, ...], output: Path, environment: Mapping[str, str]) -> None:
    """Runs ``efface`` in this process with one thread; Ctrl-C works even if the test's process ignores it."""
    redirect(output)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv = ["efface", *map(str, arguments)]
    from efface.cli import main

    main()
