"""Rules of parameter roles: conditions on the levels of a parameter's name and on the kind of its layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class NamedParameter:
    """A parameter as rules read it: the levels of its name, and whether its layer is Linear or a convolution."""

    levels: tuple[str, ...]
    linear: bool

    def below(self, *levels: str) -> bool:
        """Returns whether any of these levels is in the name."""
        return any(level in self.levels for level in levels)

    @property
    def layer(self) -> int:
        """Number of the text encoder's layer: CLIP's ``layers`` or T5's ``block``; -1 outside of layers."""
        level = next((level for level in ("layers", "block") if level in self.levels), None)
        return -1 if level is None else int(self.levels[self.levels.index(level) + 1])


Rule = Callable[[NamedParameter], bool]
"""Whether a role holds a parameter."""


def linear_below(parents: tuple[str, ...], projections: tuple[str, ...] = ()) -> Rule:
    """Returns the rule of Linear tensors below some levels, in some projections only if any are given."""
    return lambda p: p.linear and p.below(*parents) and (not projections or p.below(*projections))
