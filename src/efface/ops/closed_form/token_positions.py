"""Positions of beginning, content, end of text and padding, for every kind of tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from efface.core.errors import EffaceError


@dataclass(frozen=True)
class TokenPositions:
    """Positions of the tokens of one text.

    Attributes:
        length: number of tokens including the padding.
        content: positions of the text's own tokens, in order; empty for an empty text.
        bos: position of the token at the beginning; None if the tokenizer has none (T5).
        eos: position of the first end-of-text token; None if there is none (Llama).
        pads: positions of the padding; in CLIP's tokenizer of Stable Diffusion 1 these are end-of-text tokens, too.
    """

    length: int
    content: tuple[int, ...]
    bos: int | None
    eos: int | None
    pads: tuple[int, ...]

    @property
    def last(self) -> int:
        """Position of the last content token; for an empty text that of the end of text, or else of the beginning.

        Released code counts two back from the mask's sum. For CLIP this is the last token of the content, but the
        beginning of an empty text; for T5 and Llama it is off by one.
        """
        if self.content:
            return self.content[-1]
        position = self.bos if self.eos is None else self.eos
        if position is None:
            raise EffaceError("an empty text has no token in this tokenizer: give a text as the anchor")
        return position


def locate_tokens(
    ids: Sequence[int], mask: Sequence[int], special: Sequence[int], bos_id: int | None, eos_id: int | None
) -> TokenPositions:
    """Returns the token positions from a tokenizer's output.

    Args:
        ids: token ids, ``(L,)``.
        mask: attention mask, ``(L,)``.
        special: ids of beginning, end and padding, which no content token has.
        bos_id: id of the beginning; None if there is none.
        eos_id: id of the end; None if there is none.
    """
    eos = next((i for i, token in enumerate(ids) if token == eos_id and (i or bos_id != eos_id)), None)
    bos = None
    if bos_id is not None and bos_id != eos_id:
        bos = next((i for i, token in enumerate(ids) if token == bos_id), None)
    stop = len(ids) if eos is None else eos
    content = tuple(i for i, token in enumerate(ids[:stop]) if mask[i] and token not in special)
    taken = {*content, bos, eos}
    return TokenPositions(len(ids), content, bos, eos, tuple(i for i in range(len(ids)) if i not in taken))


def tokenize_with_positions(tokenizer: Any, texts: Sequence[str], length: int) -> tuple[Tensor, list[TokenPositions]]:
    """Tokenizes texts with any transformers tokenizer.

    Args:
        tokenizer: the tokenizer.
        texts: B texts.
        length: number of tokens L, including padding.

    Returns:
        Token ids ``(B, L)`` and the positions of each text's tokens.
    """
    out = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    mask = out["attention_mask"] if "attention_mask" in out else torch.ones_like(out["input_ids"])
    example = tokenizer("a", padding=False).input_ids
    eos = tokenizer.eos_token_id if example[-1] == tokenizer.eos_token_id else None
    has_bos = tokenizer.bos_token_id is not None and example[0] == tokenizer.bos_token_id
    bos = tokenizer.bos_token_id if has_bos else None
    special = [i for i in (bos, eos, tokenizer.pad_token_id) if i is not None]
    rows = zip(out["input_ids"].tolist(), mask.tolist(), strict=True)
    return out["input_ids"], [locate_tokens(ids, row_mask, special, bos, eos) for ids, row_mask in rows]
