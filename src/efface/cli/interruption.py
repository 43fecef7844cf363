"""What Ctrl-C prints: what an interrupted command kept, and the command that continues it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

_describe: Callable[[], str] | None = None
_arguments: tuple[str, ...] = ()


def begin(arguments: Sequence[str]) -> None:
    """Remembers the arguments of the command that begins."""
    global _arguments, _describe
    _arguments, _describe = tuple(arguments), None


def on_interrupt(describe: Callable[[], str]) -> None:
    """Sets the text of the running command; it is made when the user interrupts it."""
    global _describe
    _describe = describe


def interruption() -> str:
    """Returns the line that Ctrl-C prints."""
    return f"interrupted: {_describe()}" if _describe is not None else "interrupted"


def same_command(*more: str) -> str:
    """Returns the running command, with further options unless it has them."""
    return shlex.join(["efface", *_arguments, *(option for option in more if option not in _arguments)])


def continues_from_cache() -> str:
    """Returns the text of commands whose images are in the cache and whose searches are saved in parts."""
    return f"what was generated and found so far is kept; continue with\n  {same_command()}"
