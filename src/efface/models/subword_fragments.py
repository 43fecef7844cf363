"""Tokens that end a word but are not words: fragments left by byte-pair encoding.

Byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) learns merges by frequency, the most frequent first. It
merges "stol" because "pistol" is frequent, and merges it into "pistol" at once, because both merges have the same
count. A token that is a word itself is merged into a longer one much later, if at all: "bow" by the rare "longbow".
"""

from __future__ import annotations

import json
from typing import Any

MERGE_RANK_WINDOW = 0.03
"""A token is a fragment if a longer one absorbs it within this share of all merges after its own merge."""
END = "</w>"
"""Marks a token that ends a word."""


def nonword_tokens(tokenizer: Any) -> set[str]:
    """Returns the word-ending tokens of a CLIP tokenizer that are fragments, as text; empty without merges."""
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("merges", [])
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]
    rank_of = {"".join(pair): rank for rank, pair in enumerate(pairs)}
    window = MERGE_RANK_WINDOW * len(pairs)
    fragments = {
        right
        for rank, (_, right) in enumerate(pairs)
        if right.endswith(END) and right in rank_of and rank - rank_of[right] < window
    }
    return {token.removesuffix(END) for token in fragments}
