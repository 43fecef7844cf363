"""Seeds: independent ones derived from a root seed, and lists of seeds as short text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from .errors import EffaceError

_RANGE = re.compile(r"(-?\d+)(?:-(-?\d+))?")


def derive_seed(root: int, *labels: str | int) -> int:
    """Returns a seed in [0, 2**63) for one purpose, such as ``derive_seed(0, "evaluate", "prompt", 3)``.

    The seed is the first 63 bits of a SHA-256 and is the same on every platform and in every version. The hash covers
    the root and the labels, each with its type and length before it, so different sequences of labels never have the
    same spelling: ``("ab", "c")``, ``("a", "bc")``, ``("1",)`` and ``(1,)`` all give different seeds.
    """
    digest = hashlib.sha256(b"efface-seed-1")
    for part in (root, *labels):
        text = str(int(part)) if isinstance(part, int) else part
        encoded = text.encode()
        digest.update(f"{'i' if isinstance(part, int) else 's'}{len(encoded)}:".encode() + encoded)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def format_seeds(seeds: Iterable[int]) -> str:
    """Writes seeds as text such as ``20000-20143,20200``; keeps their order and repeated seeds."""
    ranges: list[tuple[int, int]] = []
    for seed in seeds:
        if ranges and seed == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], seed)
        else:
            ranges.append((seed, seed))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Reads the text that `format_seeds` writes.

    Raises:
        EffaceError: text of another form.
    """
    seeds: list[int] = []
    for part in text.split(",") if text else []:
        match = _RANGE.fullmatch(part)
        first = int(match[1]) if match else 0
        last = int(match[2]) if match and match[2] else first
        if match is None or last < first:
            raise EffaceError(f"seeds {text!r} are not readable at {part!r}: write ranges such as 20000-20143,20200")
        seeds.extend(range(first, last + 1))
    return tuple(seeds)
