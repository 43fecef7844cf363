"""Batches of texts as token ids, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from efface.core.errors import EffaceError
from efface.core.policy import check_prompts
from efface.models.causal_lm import CausalLM, TextTokens

MIN_TOKENS = 2
"""Shortest text that has a next token to predict."""


class TextBatches:
    """Tokenized texts.

    Args:
        model: the model whose tokenizer reads them.
        texts: the texts; those of less than two tokens are left out.
        max_length: tokens to which longer texts are cut.

    Raises:
        EffaceError: no text has two tokens.
    """

    def __init__(self, model: CausalLM, texts: Sequence[str], max_length: int = 64) -> None:
        check_prompts(texts)
        self.model, self.texts = model, [text for text in texts if text]
        end = [] if model.end is None else [model.end]
        rows = [[*model.tokenizer(text).input_ids, *end][:max_length] for text in self.texts]
        self.rows = [row for row in rows if len(row) >= MIN_TOKENS]
        if not self.rows:
            raise EffaceError("none of the texts has two tokens: give longer texts")

    def sample(self, count: int, generator: torch.Generator) -> TextTokens:
        """Draws texts with replacement."""
        return self.model.pad(self.sample_rows(count, generator))

    def sample_rows(self, count: int, generator: torch.Generator) -> list[list[int]]:
        """Draws rows of token ids with replacement."""
        chosen = torch.randint(len(self.rows), (count,), generator=generator)
        return [self.rows[i] for i in chosen.tolist()]
