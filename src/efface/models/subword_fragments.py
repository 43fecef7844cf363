"""Tokens that end a word but are no word: what byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) leaves of longer ones.

Merges are learnt by count, the most frequent first. "stol" is merged because "pistol" is frequent, and at once goes on into it: the merge
that takes it up has the very count that made it. A word of its own is taken up much later, if at all, "bow" by the rare "longbow".
"""

from __future__ import annotations

import json
from typing import Any

MERGE_RANK_WINDOW = 0.03
"""Within this share of all merges, what was merged is taken up by the next."""
END = "</w>"


def nonword_tokens(tokenizer: Any) -> set[str]:
    """The word-ending tokens of a CLIP tokenizer, as text, that hardly stand alone; none where it has no merges."""
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("merges", [])
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]
    made = {"".join(pair): rank for rank, pair in enumerate(pairs)}
    soon = MERGE_RANK_WINDOW * len(pairs)
    found = {
        right
        for rank, (_, right) in enumerate(pairs)
        if right.endswith(END) and right in made and rank - made[right] < soon
    }
    return {token.removesuffix(END) for token in found}
