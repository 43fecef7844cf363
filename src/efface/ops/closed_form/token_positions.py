"""Positions of the beginning, the text's own tokens and the end of text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenPositions:
    """Tokens of one text, as CLIP's tokenizer orders them: BOS, the text's own tokens, end of text, padding.

    Attributes:
        length: number of tokens including BOS, end of text and padding.
        eos: position of the first end of text.
    """

    length: int
    eos: int

    @property
    def content(self) -> range:
        """Positions of the text's own tokens; empty for an empty text."""
        return range(1, self.eos)

    def last(self, empty_as_bos: bool = False) -> int:
        """Returns the position of the text's last token.

        Args:
            empty_as_bos: whether an empty text's last token is BOS instead of the end of text. Released code counts two
                back from the end of the attention mask, which arrives at BOS.
        """
        if self.content:
            return self.content[-1]
        return 0 if empty_as_bos else self.eos
