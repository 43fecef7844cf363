"""Prompts that name a concept, as tokens: which are the concept's, which belong to the sentence around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.concept import Concept, find_mention
from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.models.protocol import Tokens


@dataclass(frozen=True)
class ConceptTokens:
    """A batch of prompts that name one concept.

    Attributes:
        tokens: of the prompts, ``(B, L)``.
        subject: places of the concept's tokens and, last, of EOS, ``(B, n)``; those of shorter words have EOS several times.
        free: the sentence's own tokens, bool ``(B, L)``: neither BOS, concept, EOS nor padding.
    """

    tokens: Tokens
    concept_positions: Tensor
    context_mask: Tensor

    def __getitem__(self, index: slice | Tensor) -> ConceptTokens:
        t = self.tokens
        return ConceptTokens(
            Tokens(t.ids[index], t.mask[index], t.eos[index]), self.concept_positions[index], self.context_mask[index]
        )

    def __len__(self) -> int:
        return len(self.context_mask)

    def concept_mask(self) -> Tensor:
        """The places of the concept's own tokens, bool ``(B, L)``."""
        named = _marked(self.concept_positions, self.context_mask.shape[1])
        return named.scatter(1, self.tokens.eos[:, None], False)

    def collapse_concept(self, rows: Tensor, chosen: Tensor, padding: int) -> ConceptTokens:
        """Some of the prompts with one token in the concept's place, and what follows it moved up.

        Args:
            rows: which of them, bool ``(B,)``.
            chosen: the place of the token that is left, ``(B,)``.
            padding: the token id that fills up the end.
        """
        own, t, length = self.concept_mask(), self.tokens, self.context_mask.shape[1]
        first, gone = own.int().argmax(1, keepdim=True), (own.sum(1) - 1).clamp(min=0) * rows
        places = torch.arange(length, device=own.device).expand_as(own)
        source = places + gone[:, None] * (places > first)
        there, source = source < length, source.clamp(max=length - 1)
        ids = torch.where(there, t.ids.gather(1, source), padding)
        ids = torch.where(rows[:, None] & (places == first), t.ids.gather(1, chosen[:, None]), ids)
        eos = t.eos - gone
        short = torch.cat([first, eos[:, None].expand(-1, self.concept_positions.shape[1] - 1)], dim=1)
        tokens = Tokens(ids, t.mask.gather(1, source) * there, eos)
        return ConceptTokens(
            tokens,
            torch.where(rows[:, None], short, self.concept_positions),
            self.context_mask.gather(1, source) & there,
        )

    def truncated(self) -> ConceptTokens:
        """Without the padding behind the longest prompt: a causal encoder's states up to EOS do not depend on it."""
        length = int(self.tokens.eos.max()) + 1
        tokens = Tokens(self.tokens.ids[:, :length], self.tokens.mask[:, :length], self.tokens.eos)
        return ConceptTokens(tokens, self.concept_positions, self.context_mask[:, :length])


def locate_concept(model: EditableModel, prompts: Sequence[str], words: Sequence[str]) -> ConceptTokens:
    """Prompts, each with the word for the concept that it holds.

    Raises:
        EffaceError: a word without tokens, or a prompt that does not hold its word whole, also because the context ends before it.
    """
    tokens, alone = model.tokenize(prompts), model.tokenize(words)
    rows = []
    for prompt, word, ids, wanted, end in zip(
        prompts, words, tokens.ids.tolist(), alone.ids.tolist(), alone.eos.tolist(), strict=True
    ):
        rows.append(_places(prompt, word, ids, wanted[1:end]))
    longest = max(len(row) for row in rows)
    filled = [row + [end] * (longest - len(row)) for row, end in zip(rows, tokens.eos.tolist(), strict=True)]
    at = torch.tensor(filled, device=tokens.ids.device)
    subject = torch.cat([at, tokens.eos[:, None]], dim=1)
    free = tokens.mask.bool() & ~_marked(subject, tokens.ids.shape[1])
    free[:, 0] = False
    return ConceptTokens(tokens, subject, free)


def check_fits_context(model: EditableModel, concepts: Sequence[Concept]) -> None:
    """Raises `EffaceError` where one of a concept's words, alone, is longer than the context."""
    if cut := model.truncated_text([word for concept in concepts for word in concept.words]):
        word, lost = next(iter(cut.items()))
        raise EffaceError(f"the context ends before {lost!r} in {word!r}: use a shorter name")


def _marked(places: Tensor, length: int) -> Tensor:
    """Places ``(B, n)`` as a mask ``(B, length)``."""
    return torch.zeros(len(places), length, dtype=torch.bool, device=places.device).scatter(1, places, True)


def _places(prompt: str, word: str, ids: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Where the word's tokens lie in the prompt's, at their last occurrence."""
    if not wanted:
        raise EffaceError(f"{word!r} has no tokens: name the concept in words that the text encoder knows")
    for start in range(len(ids) - len(wanted) - 1, 0, -1):
        if list(ids[start : start + len(wanted)]) == list(wanted):
            return list(range(start, start + len(wanted)))
    if find_mention(prompt, [word]):
        raise EffaceError(
            f"{word!r} is cut off by the context of {len(ids)} tokens in {prompt!r}: use a shorter sentence or name"
        )
    raise EffaceError(f"{prompt!r} does not contain {word!r}: give prompts that name the concept")
