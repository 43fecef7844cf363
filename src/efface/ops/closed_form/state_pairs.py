"""Pairs of states from concepts: which token states are moved, and to which states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.core.concept import Concept, fill_templates, find_mention, text_after_mention
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.subsample import evenly_spaced
from efface.ops.text.templates import library_templates, names_context, remove_concept

from .embedding_cache import EmbeddingCache
from .problem import Pairs
from .token_positions import TokenPositions

POSITION_CHOICES = ("last", "tail", "eos", "all", "after_bos")
"""Token positions that are moved: the concept's last token; this and all after it; the first end of text; all; all but
BOS."""

PromptPair = tuple[str, str, str]
"""A prompt, the same prompt about the anchor, and the concept's word in the first."""


def concept_prompts(concept: Concept, num_templates: int, words: Sequence[str] | None = None) -> list[PromptPair]:
    """Returns the concept's words, and these in templates, each paired with the anchor.

    If the anchor is empty, the rest of the template is the anchor ("a sketch of the woods"), or else the empty text.

    Args:
        concept: the concept.
        num_templates: number of templates; 0 pairs the words alone.
        words: words to use instead of the concept's words and prompts.
    """
    usable = [template for template in library_templates(concept) if concept.anchor or names_context(template)]
    templates = evenly_spaced(usable, num_templates) if num_templates else []
    pairs: dict[str, PromptPair] = {}
    for word in words or concept.words:
        pairs[word] = (word, concept.anchor, word)
        for template in templates:
            prompt = fill_templates([template], [word])[0]
            pairs[prompt] = (prompt, _anchor_prompt(template, concept.anchor), word)
    if words is None:
        pairs |= {prompt: (prompt, concept.anchor, concept.name) for prompt in concept.prompts}
    return list(pairs.values())


def _anchor_prompt(template: str, anchor: str) -> str:
    return fill_templates([template], [anchor])[0] if anchor else remove_concept(template)


def prompts_naming(concept: Concept, num_templates: int) -> list[PromptPair]:
    """Returns the `concept_prompts` that contain the concept's word; a user's prompt may describe it without."""
    return [pair for pair in concept_prompts(concept, num_templates) if find_mention(pair[0], [pair[2]])]


def concept_pairs(
    cache: EmbeddingCache,
    concepts: Sequence[Concept],
    num_templates: int,
    positions: str,
    empty_as_bos: bool = False,
) -> tuple[Pairs, ...]:
    """Returns each concept's pairs of states (`build_pairs`) in its prompts (`concept_prompts`)."""
    return tuple(
        build_pairs(cache, concept_prompts(concept, num_templates), positions, empty_as_bos) for concept in concepts
    )


def build_pairs(
    cache: EmbeddingCache, prompt_pairs: Sequence[PromptPair], positions: str, empty_as_bos: bool = False
) -> Pairs:
    """Returns the pairs of states of prompts, each with weight 1.

    ``tail``, ``all`` and ``after_bos`` match the states in order. ``tail`` matches the text after the concept with
    itself, repeats the anchor's first state before it, and leaves out the last states of the longer side, as the
    released code of UCE does.

    Args:
        cache: embeddings of the prompts.
        prompt_pairs: pairs from `concept_prompts`.
        positions: one of `POSITION_CHOICES`.
        empty_as_bos: whether an empty anchor's last token is BOS, as in released code, instead of the end of text.

    Raises:
        UnknownNameError: unknown ``positions``.
        EffaceError: a concept without tokens, or a prompt longer than the context.
    """
    if positions not in POSITION_CHOICES:
        raise UnknownNameError("token positions", positions, POSITION_CHOICES)
    cache.add(text for prompt, anchor_prompt, _ in prompt_pairs for text in (prompt, anchor_prompt))
    parts = [_state_rows(cache, pair, positions, empty_as_bos) for pair in prompt_pairs]
    source, anchor = (torch.cat([part[i] for part in parts]).T for i in (0, 1))
    texts = tuple(word for (_, _, word), part in zip(prompt_pairs, parts, strict=True) for _ in range(len(part[0])))
    return Pairs(source, anchor, torch.ones(source.shape[1], dtype=torch.float64), texts)


def _state_rows(cache: EmbeddingCache, pair: PromptPair, positions: str, empty_as_bos: bool) -> tuple[Tensor, Tensor]:
    """Returns the moved states of one prompt and their target states, both ``(m, d)``."""
    prompt, anchor_prompt, word = pair
    if not cache.positions(word).content:
        raise EffaceError(f"{word!r} has no tokens: name the concept in words that the text encoder knows")
    texts = (prompt, anchor_prompt, text_after_mention(prompt, word) or "")
    rows = []
    for here, there, after in zip(*(cache.positions(text).segments for text in texts), strict=True):
        states = cache.states(prompt)[here.offset : here.offset + here.length]
        anchor_states = cache.states(anchor_prompt)[there.offset : there.offset + there.length]
        num_after = len(after.content)
        rows.append(_segment_rows(states, anchor_states, here, there, num_after, positions, empty_as_bos))
    source, anchor = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return source, anchor


def _segment_rows(
    states: Tensor,
    anchor_states: Tensor,
    here: TokenPositions,
    there: TokenPositions,
    num_after: int,
    positions: str,
    empty_as_bos: bool,
) -> tuple[Tensor, Tensor]:
    """Returns the moved states of one encoder's tokens and their target states, both ``(m, d)``.

    Args:
        states: of the prompt, ``(L, d)``.
        anchor_states: of the prompt about the anchor.
        here: positions of the prompt's tokens.
        there: positions of the tokens of the prompt about the anchor.
        num_after: number of the prompt's tokens after the concept.
        positions: one of `POSITION_CHOICES`.
        empty_as_bos: see `build_pairs`.
    """
    if positions in ("all", "after_bos"):
        first = here.start if positions == "after_bos" else 0
        return states[first:], anchor_states[first:]
    if positions == "eos":
        return states[[here.eos]], anchor_states[[there.eos]]
    start = here.last() - num_after
    match = there.last(empty_as_bos) - (num_after if there.content else 0)
    count = 1 if positions == "last" else here.length - max(start, match)
    matches = torch.arange(match, match + count).clamp(min=there.content[0] if there.content else 0)
    return states[start : start + count], anchor_states[matches]
