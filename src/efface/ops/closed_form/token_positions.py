"""Positions of the beginning, the text's own tokens and the end of text."""

from __future__ import annotations

from dataclasses import dataclass

from efface.models.protocol import Tokens


def token_positions(tokens: Tokens) -> list[TokenPositions]:
    """Returns the positions of each tokenized text."""
    length = tokens.ids.shape[1]
    if tokens.clip is None or not tokens.state_offset:
        return [TokenPositions(length, end, tokens.start) for end in tokens.eos.tolist()]
    return [
        TokenPositions(length, end, tokens.start, tokens.state_offset, clip)
        for end, clip in zip(tokens.eos.tolist(), token_positions(tokens.clip), strict=True)
    ]


@dataclass(frozen=True)
class TokenPositions:
    """Tokens of one text: BOS (CLIP) or none (T5), the text's own tokens, end of text, padding.

    Attributes:
        length: number of tokens including BOS, end of text and padding.
        eos: position of the first end of text.
        start: position of the text's first own token.
        offset: index of the first token's state among the text's states.
        clip: CLIP's tokens of the text, where their states come before T5's (SD3); else None.
    """

    length: int
    eos: int
    start: int = 1
    offset: int = 0
    clip: TokenPositions | None = None

    @property
    def segments(self) -> tuple[TokenPositions, ...]:
        """The tokens of each encoder that gives states, in the order of the states."""
        return (self,) if self.clip is None else (self.clip, self)

    @property
    def content(self) -> range:
        """Positions of the text's own tokens; empty for an empty text."""
        return range(self.start, self.eos)

    def last(self, empty_as_bos: bool = False) -> int:
        """Returns the position of the text's last token.

        Args:
            empty_as_bos: whether an empty text's last token is BOS instead of the end of text. Released code counts two
                back from the end of the attention mask, which arrives at BOS.
        """
        if self.content:
            return self.content[-1]
        return 0 if empty_as_bos else self.eos
