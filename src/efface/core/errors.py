"""Errors that a user can cure: one line with the problem and the cure. The command line prints it and exits with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EffaceError(Exception):
    """Base of all errors that a user can cure."""


class UnknownNameError(EffaceError):
    """An unknown name; the message suggests the nearest known name and lists all of them."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        near = difflib.get_close_matches(name, self.known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        verb = "is" if len(self.known) == 1 else "are"
        super().__init__(f"unknown {kind} {name!r}: {hint}there {verb} {', '.join(self.known) or 'none'}")


class CorruptArtifactError(EffaceError):
    """A saved file or folder that was changed, cut short, is incomplete or is unsafe to read."""


class BaseModelMismatchError(EffaceError):
    """An erasure was applied to a base model other than the one it was made for."""


def check_known_keys(kind: str, given: Iterable[object], known: Iterable[str]) -> None:
    """Raises `UnknownNameError` for the first given key that is not known."""
    names = set(known)
    for key in given:
        if key not in names:
            raise UnknownNameError(kind, str(key), names)
