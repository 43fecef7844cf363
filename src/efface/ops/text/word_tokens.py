"""Tokens of prompts that are made of words of one token each, for searches over words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.models.protocol import Tokens

from .soft_prompts import single_token_ids


def word_tokens(empty: Tokens, word_ids: Tensor) -> Tokens:
    """Returns the tokens of prompts of K words.

    Args:
        empty: tokens of the empty prompt.
        word_ids: token ids of the words, ``(B, K)``.
    """
    rows, end = len(word_ids), empty.start + word_ids.shape[1]
    tokens = empty[torch.zeros(rows, dtype=torch.long)]
    ids = tokens.ids.clone()
    ids[:, empty.start : end] = word_ids
    ids[:, end] = empty.ids[0, empty.start]  # EOS, which not every tokenizer uses as padding
    eos = torch.full((rows,), end, device=ids.device)
    mask = (torch.arange(ids.shape[1], device=ids.device) <= end).long().expand(rows, -1)
    return replace(tokens, ids=ids, mask=mask, eos=eos)


def words_without_concept(model: EditableModel, concept: Concept) -> Tensor:
    """Returns the token ids of all words of one token but those of the concept's name and synonyms, ``(V,)``.

    Raises:
        EffaceError: no word is left.
    """
    tokens = model.tokenize(list(concept.words))
    own = [ids[tokens.start : end] for ids, end in zip(tokens.ids, tokens.eos.tolist(), strict=True)]
    vocabulary = single_token_ids(model)
    allowed: Tensor = vocabulary[~torch.isin(vocabulary, torch.cat(own))]
    if not len(allowed):
        raise EffaceError(f"the tokenizer of {model.name} has no words of one token: this attack cannot search")
    return allowed


def check_num_words(num_tokens: int, empty: Tokens) -> None:
    """Raises `EffaceError` if a prompt of that many words does not fit the context."""
    most = empty.ids.shape[1] - empty.start - 1
    if not 1 <= num_tokens <= most:
        raise EffaceError(f"num_tokens must be 1 to {most}, not {num_tokens}")


def with_free_words(model: EditableModel, prompts: Sequence[str], every: int) -> tuple[Tokens, Tensor]:
    """Returns the tokens of B prompts with a free word before every few of their tokens.

    Args:
        model: provides the tokenizer.
        prompts: the prompts; tokens that no longer fit the context are cut off.
        every: number of a prompt's tokens after each free word.

    Returns:
        The tokens, and the positions of the free words, bool ``(B, L)``.
    """
    tokens = model.tokenize(prompts)
    ids, free, eos = tokens.ids.clone(), torch.zeros_like(tokens.ids, dtype=torch.bool), tokens.eos.clone()
    end_token, most = int(model.tokenize([""]).ids[0, tokens.start]), tokens.ids.shape[1] - 1
    for row, end in enumerate(tokens.eos.tolist()):
        own = tokens.ids[row, tokens.start : end].tolist()
        mixed = [word for i, word in enumerate(own) for word in ([-1, word] if i % every == 0 else [word])]
        mixed = mixed[: most - tokens.start]
        eos[row] = tokens.start + len(mixed)
        values = torch.tensor([*mixed, end_token], device=ids.device)
        free[row, tokens.start : int(eos[row]) + 1] = values == -1
        ids[row, tokens.start : int(eos[row]) + 1] = values.where(values != -1, end_token)
    mask = (torch.arange(ids.shape[1], device=ids.device)[None] <= eos[:, None]).long()
    return replace(tokens, ids=ids, mask=mask, eos=eos), free


def with_words_before(model: EditableModel, prompts: Sequence[str], count: int) -> tuple[Tokens, Tensor]:
    """Returns the tokens of B prompts with ``count`` free words before each, and their positions, bool ``(B, L)``.

    Tokens of a prompt that no longer fit the context are cut off.

    Raises:
        EffaceError: as many words do not fit the context.
    """
    tokens, empty = model.tokenize(prompts), model.tokenize([""])
    check_num_words(count, empty)
    start, length = tokens.start, tokens.ids.shape[1]
    filler = empty.ids[:, start : start + 1].expand(len(prompts), count)
    ids = torch.cat([tokens.ids[:, :start], filler, tokens.ids[:, start : length - count]], dim=1)
    eos = (tokens.eos + count).clamp(max=length - 1)
    ids[torch.arange(len(ids)), eos] = empty.ids[0, start]
    positions = torch.arange(length, device=ids.device)[None]
    free = ((positions >= start) & (positions < start + count)).expand(len(ids), -1)
    return replace(tokens, ids=ids, mask=(positions <= eos[:, None]).long(), eos=eos), free
