"""``efface``: the command line, with every command; errors that a user can cure are one line and exit code 2."""

from __future__ import annotations

import os
import sys
import warnings

from efface.core.errors import EffaceError
from efface.distributed import env

# isort: off
from . import core_commands  # first, as --help lists them
from . import closed_form
from . import studies
from . import reproduce
from . import listing
from . import concepts
from .app import app
# isort: on

__all__ = ["app", "closed_form", "concepts", "core_commands", "listing", "main", "reproduce", "studies"]


def _one_line(message: Warning | str, *_rest: object, **_more: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main() -> None:
    """Run the command line: errors that a user can cure are one line on standard error, and exit code 2."""
    warnings.showwarning = _one_line
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # there is one bar a command, and it is ours
    try:
        if env.world_size() > 1:
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what ends with another process is no warning
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
