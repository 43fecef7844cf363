"""What stands around a concept in its sentences, matched with the same sentence about the anchor (MACE, arXiv 2403.06135)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from efface.models.editable import EditableModel
from efface.ops.text.concept_tokens import locate_concept

from .embedding_cache import EmbeddingCache
from .solve import Pairs


def co_occurring(model: EditableModel, bank: EmbeddingCache, rows: Sequence[tuple[str, str, str]]) -> Pairs:
    """The pairs of the tokens that two prompts share, the concept's own left out, each with weight 1.

    Around a name, the sentence's other tokens take it up: the encoder passes it on to all that comes behind. Those are what is moved.

    Args:
        model: whose tokens they are.
        bank: where the states come from.
        rows: a prompt, the same about the anchor, and the word for the concept in the first.

    Raises:
        EffaceError: a prompt that does not hold its word, or one that is cut off by the context.
    """
    bank.add(text for prompt, anchor, _ in rows for text in (prompt, anchor))
    own = locate_concept(model, [row[0] for row in rows], [row[2] for row in rows]).concept_mask().tolist()
    here, there = (model.tokenize([row[i] for row in rows]) for i in (0, 1))
    source, target, texts = [], [], []
    for i, (prompt, anchor, word) in enumerate(rows):
        ends = int(here.eos[i]), int(there.eos[i])
        for a, b in align_tokens(here.ids[i].tolist(), ends[0], there.ids[i].tolist(), ends[1]):
            if not own[i][a]:
                source.append(bank.states(prompt)[a])
                target.append(bank.states(anchor)[b])
                texts.append(word)
    return Pairs(
        torch.stack(source, 1), torch.stack(target, 1), torch.ones(len(source), dtype=torch.float64), tuple(texts)
    )


def align_tokens(here: Sequence[int], end: int, there: Sequence[int], other_end: int) -> list[tuple[int, int]]:
    """Places of two prompts' tokens that are the same: from the beginning, back from the end, and end of text with padding.

    Args:
        here: ids, ``(L,)``.
        end: the place of its end of text.
        there: ids of the other prompt, as many.
        other_end: the place of its end of text.
    """
    shorter = min(end, other_end)
    front = next((i for i in range(shorter) if here[i] != there[i]), shorter)
    back = next((i for i in range(shorter - front) if here[end - 1 - i] != there[other_end - 1 - i]), shorter - front)
    rest = min(len(here) - end, len(there) - other_end)
    return [*((i, i) for i in range(front)), *((end + i, other_end + i) for i in range(-back, rest))]
