"""Tokens of prompts that name a concept: which belong to the concept and which to its context."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from efface.core.concept import Concept, find_mention
from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.models.protocol import Tokens


@dataclass(frozen=True)
class ConceptTokens:
    """A batch of tokenized prompts, each of which names a concept.

    Attributes:
        tokens: tokens of the prompts, ``(B, L)``.
        concept_positions: positions of the concept's n tokens and of EOS, ``(B, n + 1)``. Shorter phrases repeat the
            position of EOS.
        context_mask: bool ``(B, L)``, true at the context's tokens: neither BOS, concept, EOS nor padding.
    """

    tokens: Tokens
    concept_positions: Tensor
    context_mask: Tensor

    def __getitem__(self, index: slice | Tensor) -> ConceptTokens:
        return ConceptTokens(self.tokens[index], self.concept_positions[index], self.context_mask[index])

    def __len__(self) -> int:
        return len(self.context_mask)

    def concept_mask(self) -> Tensor:
        """Returns a bool mask ``(B, L)`` of the concept's tokens, without EOS."""
        mask = _positions_to_mask(self.concept_positions, self.context_mask.shape[1])
        return mask.scatter(1, self.tokens.eos[:, None], False)

    def collapse_concept(self, rows: Tensor, kept_position: Tensor, padding_id: int) -> ConceptTokens:
        """Replaces the concept of some prompts by one of its tokens and moves the following tokens up.

        Args:
            rows: prompts to change, bool ``(B,)``.
            kept_position: position of the token that remains, ``(B,)``.
            padding_id: token id that fills the end of the shortened prompts.
        """
        concept_mask = self.concept_mask()
        length = self.context_mask.shape[1]
        first = concept_mask.int().argmax(1, keepdim=True)
        num_removed = (concept_mask.sum(1) - 1).clamp(min=0) * rows
        positions = torch.arange(length, device=concept_mask.device).expand_as(concept_mask)
        source = positions + num_removed[:, None] * (positions > first)
        in_context = source < length
        source = source.clamp(max=length - 1)

        ids = torch.where(in_context, self.tokens.ids.gather(1, source), padding_id)
        kept_ids = self.tokens.ids.gather(1, kept_position[:, None])
        ids = torch.where(rows[:, None] & (positions == first), kept_ids, ids)
        eos = self.tokens.eos - num_removed
        tokens = replace(self.tokens, ids=ids, mask=self.tokens.mask.gather(1, source) * in_context, eos=eos)

        collapsed = torch.cat([first, eos[:, None].expand(-1, self.concept_positions.shape[1] - 1)], dim=1)
        concept_positions = torch.where(rows[:, None], collapsed, self.concept_positions)
        return ConceptTokens(tokens, concept_positions, self.context_mask.gather(1, source) & in_context)

    def truncated(self) -> ConceptTokens:
        """Removes the padding behind the longest prompt where no state up to EOS depends on it."""
        tokens = self.tokens.without_padding()
        return ConceptTokens(tokens, self.concept_positions, self.context_mask[:, : tokens.ids.shape[1]])


def locate_concept(model: EditableModel, prompts: Sequence[str], phrases: Sequence[str]) -> ConceptTokens:
    """Tokenizes prompts and finds in each the tokens of its concept phrase.

    Args:
        model: provides the tokenizer.
        prompts: B prompts.
        phrases: the concept phrase of each prompt, such as ``santa claus``.

    Raises:
        EffaceError: a phrase without tokens, a prompt without its phrase, or a phrase that the context length cuts off.
    """
    return locate_phrases(prompts, phrases, model.tokenize(prompts), model.tokenize(phrases))


def locate_phrases(
    prompts: Sequence[str], phrases: Sequence[str], tokens: Tokens, phrase_tokens: Tokens
) -> ConceptTokens:
    """Finds in each prompt's tokens those of its concept phrase, such as in CLIP's tokens of a model with T5.

    Args:
        prompts: B prompts.
        phrases: the concept phrase of each prompt.
        tokens: tokens of the prompts.
        phrase_tokens: tokens of the phrases, by the same tokenizer.
    """
    rows = []
    for prompt, phrase, ids, phrase_ids, phrase_end in zip(
        prompts, phrases, tokens.ids.tolist(), phrase_tokens.ids.tolist(), phrase_tokens.eos.tolist(), strict=True
    ):
        rows.append(_find_phrase(prompt, phrase, ids, phrase_ids[tokens.start : phrase_end]))
    longest = max(len(row) for row in rows)
    padded = [row + [end] * (longest - len(row)) for row, end in zip(rows, tokens.eos.tolist(), strict=True)]
    positions = torch.tensor(padded, device=tokens.ids.device)
    concept_positions = torch.cat([positions, tokens.eos[:, None]], dim=1)
    context_mask = tokens.mask.bool() & ~_positions_to_mask(concept_positions, tokens.ids.shape[1])
    context_mask[:, : tokens.start] = False
    return ConceptTokens(tokens, concept_positions, context_mask)


def mention_mask(model: EditableModel, tokens: Tokens, phrases: Sequence[str]) -> Tensor:
    """Returns a bool mask ``(B, L)`` of all mentions of its phrase in each prompt, not only the last.

    Args:
        model: provides the tokenizer.
        tokens: tokens of B prompts.
        phrases: the concept phrase of each prompt.
    """
    return _mentions(tokens, model.tokenize(phrases))


def mentioned_states(model: EditableModel, tokens: Tokens, phrases: Sequence[str], num_states: int) -> Tensor:
    """Returns a bool mask ``(B, num_states)`` of the hidden states of all mentions; SD3's are T5's and CLIP's.

    Args:
        model: provides the tokenizers.
        tokens: tokens of B prompts.
        phrases: the concept phrase of each prompt.
        num_states: number of hidden states of a prompt.
    """
    phrase_tokens = model.tokenize(phrases)
    mask = torch.zeros(len(tokens), num_states, dtype=torch.bool, device=tokens.ids.device)
    parts = [(tokens.state_offset, tokens, phrase_tokens)]
    if tokens.state_offset and tokens.clip is not None and phrase_tokens.clip is not None:
        parts.append((0, tokens.clip, phrase_tokens.clip))
    for start, part, phrase_part in parts:
        mask[:, start : start + part.ids.shape[1]] = _mentions(part, phrase_part)
    return mask


def _mentions(tokens: Tokens, phrase_tokens: Tokens) -> Tensor:
    """Returns a bool mask ``(B, L)`` of all mentions of each prompt's phrase."""
    mask = torch.zeros_like(tokens.ids, dtype=torch.bool)
    rows = zip(tokens.ids.tolist(), phrase_tokens.ids.tolist(), phrase_tokens.eos.tolist(), strict=True)
    for row, (ids, phrase_ids, phrase_end) in enumerate(rows):
        for start in _occurrences(ids, phrase_ids[tokens.start : phrase_end]):
            mask[row, start : start + phrase_end - tokens.start] = True
    return mask


def check_fits_context(model: EditableModel, concepts: Sequence[Concept]) -> None:
    """Raises `EffaceError` if a concept's name or synonym is longer than the context length."""
    if cut := model.truncated_text([phrase for concept in concepts for phrase in concept.words]):
        phrase, lost = next(iter(cut.items()))
        raise EffaceError(f"{phrase!r} exceeds the context length, which cuts off {lost!r}: use a shorter name")


def report_unknown_names(model: EditableModel, concepts: Sequence[Concept]) -> None:
    """Warns of names that the tokenizer splits into single letters: the model has hardly seen them."""
    names = [concept.name for concept in concepts]
    tokens = model.tokenize(names)
    for name, length in zip(names, (tokens.eos - tokens.start).tolist(), strict=True):
        if length >= max(3, len("".join(name.split()))):
            warnings.warn(
                f"the model's text encoder reads {name!r} letter by letter, so it hardly knows the concept: check the "
                f"spelling, or look at its images (efface sample {shlex.quote(name)})",
                stacklevel=2,
            )


def _positions_to_mask(positions: Tensor, length: int) -> Tensor:
    """Converts positions ``(B, n)`` to a bool mask ``(B, length)``."""
    mask = torch.zeros(len(positions), length, dtype=torch.bool, device=positions.device)
    return mask.scatter(1, positions, True)


def _find_phrase(prompt: str, phrase: str, ids: Sequence[int], phrase_ids: Sequence[int]) -> list[int]:
    """Returns the token positions of the phrase's last occurrence in the prompt."""
    if not phrase_ids:
        raise EffaceError(f"{phrase!r} has no tokens: name the concept in words that the text encoder knows")
    if starts := _occurrences(ids, phrase_ids):
        return list(range(starts[-1], starts[-1] + len(phrase_ids)))
    if find_mention(prompt, [phrase]):
        raise EffaceError(
            f"the context of {len(ids)} tokens cuts off {phrase!r} in {prompt!r}: use a shorter prompt or name"
        )
    raise EffaceError(f"{prompt!r} does not contain {phrase!r}: give prompts that name the concept")


def _occurrences(ids: Sequence[int], phrase_ids: Sequence[int]) -> list[int]:
    """Returns the positions at which a phrase begins and ends before the last token; none contains BOS."""
    starts = range(len(ids) - len(phrase_ids))
    return [start for start in starts if list(ids[start : start + len(phrase_ids)]) == list(phrase_ids)]
