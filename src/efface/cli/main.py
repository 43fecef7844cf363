"""``efface``: the command line with every command. An error that a user can cure is one line and exit code 2."""

from __future__ import annotations

import io
import os
import sys
import warnings

from efface.core.errors import EffaceError
from efface.distributed import env

from . import (
    attack,
    audit,
    benchmarks,
    closed_form,
    compare,
    compose,
    concepts,
    coreferences,
    demo,
    erase,
    erase_eval,
    evaluate,
    export,
    hub,
    leaderboard,
    listing,
    m_erasure,
    report,
    reproduce,
    sample,
    serve,
    show,
    studies,
    sweep,
    transfer,
    unlearn_canvas,
)  # fmt: skip
from .app import app
from .help_texts import add_help_texts

add_help_texts(app)

__all__ = [
    "app", "attack", "audit", "benchmarks", "closed_form", "compare", "compose", "concepts", "coreferences", "demo",
    "erase", "erase_eval", "evaluate", "export", "hub", "leaderboard", "listing", "m_erasure", "main", "report",
    "reproduce", "sample", "serve", "show", "studies", "sweep", "transfer", "unlearn_canvas",
]  # fmt: skip


def _print_warning(message: Warning | str, *_args: object, **_kwargs: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main() -> None:
    """Run the command line; print errors that a user can cure as one line on standard error and exit with code 2."""
    warnings.showwarning = _print_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # letters that the terminal's encoding lacks
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # each command shows one progress bar, its own
    try:
        if env.world_size() > 1:
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch warns when another process ends first
            from .distributed import run_distributed

            run_distributed(app)
        else:
            app()
    except EffaceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
