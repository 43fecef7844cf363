"""Which token is what, for every kind of tokenizer: beginning, content, end of text, padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from efface.core.errors import EffaceError


@dataclass(frozen=True)
class TokenPositions:
    """Where things are in one tokenised text.

    Attributes:
        length: tokens in all, with the padding.
        content: places of the text's own tokens, in order; none for an empty text.
        bos: the token at the beginning, None where the tokenizer has none (T5).
        eos: the first end-of-text token, None where there is none (Llama).
        pads: places of the padding; in CLIP's tokenizer of Stable Diffusion 1 they hold end-of-text tokens, too.
    """

    length: int
    content: tuple[int, ...]
    bos: int | None
    eos: int | None
    pads: tuple[int, ...]

    @property
    def last(self) -> int:
        """The last token of the content; for an empty text the end of text, or where there is none the beginning.

        Released code counts two back from the mask's sum. For CLIP this is the last token of the content, but the beginning of an empty
        text; for T5 and Llama it is off by one.
        """
        place = self.content[-1] if self.content else self.eos if self.eos is not None else self.bos
        if place is None:
            raise EffaceError("an empty text has no token here: name an anchor in words")
        return place

    @property
    def tail(self) -> range:
        """From the last token of the content to the end, padding and all."""
        return range(self.last, self.length)


def token_positions(
    ids: Sequence[int], mask: Sequence[int], special: Sequence[int], bos_id: int | None, eos_id: int | None
) -> TokenPositions:
    """Places from a tokenizer's output.

    Args:
        ids: token ids, ``(L,)``.
        mask: 1 where attention goes.
        special: ids that no text's own token has: beginning, end, padding.
        bos_id: the beginning's id; None where there is none.
        eos_id: the end's; None where there is none.
    """
    end = next((i for i, token in enumerate(ids) if token == eos_id and (i or bos_id != eos_id)), None)
    bos = (
        next((i for i, token in enumerate(ids) if token == bos_id), None)
        if bos_id is not None and bos_id != eos_id
        else None
    )
    stop = len(ids) if end is None else end
    content = tuple(i for i, token in enumerate(ids[:stop]) if mask[i] and token not in special)
    taken = {*content, bos, end}
    return TokenPositions(len(ids), content, bos, end, tuple(i for i in range(len(ids)) if i not in taken))


def parse_positions(tokenizer: Any, texts: Sequence[str], length: int) -> tuple[Tensor, list[TokenPositions]]:
    """Token ids ``(B, L)`` and places of texts under a transformers tokenizer, whatever its kind, padded to ``length``."""
    out = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    mask = out["attention_mask"] if "attention_mask" in out else torch.ones_like(out["input_ids"])
    ends_with = tokenizer("a", padding=False).input_ids[-1]
    eos = tokenizer.eos_token_id if ends_with == tokenizer.eos_token_id else None
    begins = tokenizer("a", padding=False).input_ids[0]
    bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None and begins == tokenizer.bos_token_id else None
    special = [i for i in (bos, eos, tokenizer.pad_token_id) if i is not None]
    rows = zip(out["input_ids"].tolist(), mask.tolist(), strict=True)
    return out["input_ids"], [token_positions(ids, seen, special, bos, eos) for ids, seen in rows]
