"""Pairs of states from concepts: which token states are moved, and to which states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.core.concept import Concept, fill_templates, find_mention
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.subsample import evenly_spaced
from efface.ops.text.templates import names_context, remove_concept, template_library, templates_for_kind

from .embedding_cache import EmbeddingCache
from .problem import Pairs
from .token_positions import TokenPositions

POSITION_CHOICES = ("last", "tail", "eos", "all")
"""Token positions that are moved: the concept's last token; this and all after it; the first end of text; all."""

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
    library = templates_for_kind(template_library(concept.kind), concept.kind)
    usable = [template for template in library if concept.anchor or names_context(template)]
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


def build_pairs(
    cache: EmbeddingCache, prompt_pairs: Sequence[PromptPair], positions: str, bos_anchor: bool = False
) -> Pairs:
    """Returns the pairs of states of prompts, each with weight 1.

    Args:
        cache: embeddings of the prompts.
        prompt_pairs: pairs from `concept_prompts`.
        positions: one of `POSITION_CHOICES`. ``tail`` and ``all`` match the states in order, ``tail`` so that the text
            after the concept is matched with itself; the anchor's first and last states are repeated at the ends.
        bos_anchor: whether an empty anchor is the state of the first token, as in released code, instead of the end of
            text's.

    Raises:
        UnknownNameError: unknown ``positions``.
        EffaceError: a concept without tokens, or a prompt longer than the context.
    """
    if positions not in POSITION_CHOICES:
        raise UnknownNameError("token positions", positions, POSITION_CHOICES)
    cache.add(text for prompt, anchor_prompt, _ in prompt_pairs for text in (prompt, anchor_prompt))
    parts = [_state_rows(cache, pair, positions, bos_anchor) for pair in prompt_pairs]
    source, anchor = (torch.cat([part[i] for part in parts]).T for i in (0, 1))
    texts = tuple(word for (_, _, word), part in zip(prompt_pairs, parts, strict=True) for _ in range(len(part[0])))
    return Pairs(source, anchor, torch.ones(source.shape[1], dtype=torch.float64), texts)


def _state_rows(cache: EmbeddingCache, pair: PromptPair, positions: str, bos_anchor: bool) -> tuple[Tensor, Tensor]:
    """Returns the moved states of one prompt and their target states, both ``(m, d)``."""
    prompt, anchor_prompt, word = pair
    states, anchor_states = cache.states(prompt), cache.states(anchor_prompt)
    if not cache.positions(word).content:
        raise EffaceError(f"{word!r} has no tokens: name the concept in words that the text encoder knows")
    here, there = cache.positions(prompt), cache.positions(anchor_prompt)
    if positions == "all":
        return states, anchor_states
    if positions == "eos":
        if here.eos is None or there.eos is None:
            raise EffaceError("this tokenizer has no end of text: choose other token positions")
        return states[[here.eos]], anchor_states[[there.eos]]
    start = _word_end(prompt, word, here, cache)
    if bos_anchor and not there.content and there.bos is not None:
        match = there.bos
    else:
        match = _matching_position(start, here, there)
    first = there.content[0] if there.content else 0
    matches = torch.arange(match, match + here.length - start).clamp(first, there.length - 1)
    if positions == "last":
        return states[[start]], anchor_states[matches[:1]]
    return states[start:], anchor_states[matches]


def _word_end(prompt: str, word: str, positions: TokenPositions, cache: EmbeddingCache) -> int:
    """Position of the word's last token in the prompt, counted from the end by the tokens of the text after it."""
    text_after = prompt.rpartition(word)[2].strip() if word in prompt else ""
    num_after = len(cache.positions(text_after).content) if text_after else 0
    return positions.content[len(positions.content) - 1 - num_after]


def _matching_position(start: int, here: TokenPositions, there: TokenPositions) -> int:
    """Position in the anchor prompt with as many content tokens after it; below its first token if it is too short."""
    if not there.content:
        return there.last
    num_after = len(here.content) - 1 - here.content.index(start)
    return there.content[-1] - num_after
