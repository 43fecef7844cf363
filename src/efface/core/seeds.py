"""Independent seeds from one root seed: the same on every platform and in every version."""

from __future__ import annotations

import hashlib


def derive_seed(root: int, *labels: str | int) -> int:
    """A seed in [0, 2**63) for one purpose, such as ``derive_seed(0, "evaluate", "prompt", 3)``.

    The first 63 bits of the SHA-256 of the root and the labels, each with its type and length before it, so that no two different
    sequences of labels are spelt alike: ``("ab", "c")``, ``("a", "bc")`` and ``("1",)``, ``(1,)`` all give different seeds.
    """
    digest = hashlib.sha256(b"efface-seed-1")
    for part in (root, *labels):
        text = str(int(part)) if isinstance(part, int) else part
        encoded = text.encode()
        digest.update(f"{'i' if isinstance(part, int) else 's'}{len(encoded)}:".encode() + encoded)
    return int.from_bytes(digest.digest()[:8], "big") >> 1
