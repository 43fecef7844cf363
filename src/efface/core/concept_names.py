"""The names of concepts as one text for titles and messages."""

from __future__ import annotations

from collections.abc import Sequence

from .concept import Concept

LIMIT = 4
"""Number of names before the rest is counted."""


def concept_names(concepts: Sequence[Concept], limit: int | None = LIMIT) -> str:
    """Returns the names, such as ``a, b, c, d and 96 more``.

    Args:
        concepts: the concepts.
        limit: number of names before the rest is counted; None names all.
    """
    names = [concept.name for concept in concepts]
    if limit is None or len(names) <= limit + 1:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"
