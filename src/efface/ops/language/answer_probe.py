"""The share of answers that an edited model still gives as the original did, on texts that a method may read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.core.subsample import evenly_spaced
from efface.models.causal_lm import CausalLM, TextTokens

ANSWER = " answer:"
BATCH = 64


class AnswerProbe:
    """Texts and the original model's likeliest token at each place of their answers.

    The answer of a text is what follows its last ``answer:``; of a text without one, all but the first half.

    Args:
        model: the original model.
        texts: the texts.
        limit: maximum number of texts, evenly spaced.
        max_length: tokens to which longer texts are cut.
    """

    def __init__(self, model: CausalLM, texts: Sequence[str], limit: int = 128, max_length: int = 64) -> None:
        self.model = model
        asked = [text for text in texts if ANSWER in text]
        rows = []
        for text in evenly_spaced(asked or list(texts), limit):
            row = list(model.tokenizer(text).input_ids[:max_length])
            start = text.rfind(ANSWER)
            given = len(model.tokenizer(text[: start + len(ANSWER)]).input_ids) if start >= 0 else len(row) // 2
            rows.append((row, min(max(given, 1), len(row) - 1)))
        rows = [(row, given) for row, given in rows if len(row) > 1]
        self.batches = [self._batch(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]
        self.original = [self._likeliest(tokens) for tokens, _ in self.batches]

    def agreement(self) -> float:
        """Returns the share of texts whose answer the model, as it is now, still predicts token by token."""
        kept, total = 0, 0
        for (tokens, mask), old in zip(self.batches, self.original, strict=True):
            same = (self._likeliest(tokens) == old) | ~mask
            kept, total = kept + int(same.all(1).sum()), total + len(same)
        return kept / max(total, 1)

    def _batch(self, rows: Sequence[tuple[list[int], int]]) -> tuple[TextTokens, Tensor]:
        """Returns padded tokens, and a mask of the places that predict a token of the answer."""
        tokens = self.model.pad([row for row, _ in rows])
        mask = torch.zeros_like(tokens.mask, dtype=torch.bool)
        for i, (row, given) in enumerate(rows):
            mask[i, given - 1 : len(row) - 1] = True
        return tokens, mask

    @torch.no_grad()
    def _likeliest(self, tokens: TextTokens) -> Tensor:
        return self.model.logits(tokens).argmax(-1)
