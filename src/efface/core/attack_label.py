"""The label of an attack set: the attack's name and every setting that differs from the attack's own.

A label names the set's folder in the evidence and the group of its scores, so that sets with other settings live side
by side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .serialization import json_hash

MAX_LENGTH = 80
"""Number of characters after which a label is shortened to the attack's name and a hash."""


def attack_label(attack: str, settings: Mapping[str, Any]) -> str:
    """Returns a label that is a valid file name, such as ``synonyms-limit-4`` or ``inside_out-seed-1-steps-100``.

    Args:
        attack: name of the attack.
        settings: the settings that differ from the attack's own, by name. A value that is not a short word or number
            is replaced by its hash.
    """
    parts = [f"{name}-{_word(value)}" for name, value in settings.items()]
    label = "-".join([attack, *parts])
    return label if len(label) <= MAX_LENGTH else f"{attack}-{json_hash(dict(settings))[:12]}"


def attack_of(label: str) -> str:
    """Returns the name of the attack that a label begins with."""
    return label.partition("-")[0]


def _word(value: Any) -> str:
    """Returns a short word or number as it is, and the hash of any other value."""
    text = str(value)
    return text if re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", text) else json_hash(value)[:8]
