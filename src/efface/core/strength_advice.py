"""Advice on the settings of a method that make an erasure stronger or weaker."""

from __future__ import annotations

from collections.abc import Collection

STRENGTHEN_WHEN_RAISED = ("learning_rate", "steps", "erase_scale", "strength", "guidance_scale", "num_templates")
STRENGTHEN_WHEN_LOWERED = ("ridge", "preserve_scale", "eigenvalue_threshold")
MAX_NAMED = 2
"""Number of settings named for each direction."""


def strength_advice(settings: Collection[str], *, stronger: bool) -> str:
    """Returns what to change for a stronger or a weaker erasure, such as ``raise learning_rate or steps``.

    Args:
        settings: names of the method's settings; only these are named.
        stronger: whether the erasure was too weak.
    """
    rising, falling = STRENGTHEN_WHEN_RAISED, STRENGTHEN_WHEN_LOWERED
    parts = []
    for verb, names in (("raise", rising if stronger else falling), ("lower", falling if stronger else rising)):
        known = [name for name in names if name in settings][:MAX_NAMED]
        parts += [f"{verb} {' or '.join(known)}"] if known else []
    return "; ".join(parts) or "choose another preset or method"
