"""Errors that a user can cure: one line that says what is wrong and what to do. The command line prints it and exits with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EffaceError(Exception):
    """Base of all errors that a user can cure."""


class UnknownNameError(EffaceError):
    """A name that nothing is registered under; the message suggests the nearest one and lists what there is."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        near = difflib.get_close_matches(name, self.known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        there = "is" if len(self.known) == 1 else "are"
        super().__init__(f"unknown {kind} {name!r}: {hint}there {there} {', '.join(self.known) or 'none'}")


class CorruptArtifactError(EffaceError):
    """A saved file or folder that is not what was written: changed, cut short, incomplete or unsafe to read."""


class BaseModelMismatchError(EffaceError):
    """An erasure meets a base model other than the one that it was made for."""


def check_known_keys(kind: str, given: Iterable[object], known: Iterable[str]) -> None:
    """Raises `UnknownName` for the first of the given keys that is not known."""
    names = set(known)
    for key in given:
        if key not in names:
            raise UnknownNameError(kind, str(key), names)
