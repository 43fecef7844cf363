"""From concepts to pairs of states: which tokens are moved, and onto what."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.core.concept import Concept, fill_templates, find_mention
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.subsample import evenly_spaced
from efface.ops.text.templates import names_context, remove_concept, template_library, templates_for_kind

from .embedding_cache import EmbeddingCache
from .solve import Pairs
from .token_positions import TokenPositions

TOKENS = ("last", "tail", "eos", "all")
"""Which states of a prompt are moved: the last token of the concept; this and all after it; the first end of text; every one."""


def concept_prompts(concept: Concept, templates: int, words: Sequence[str] | None = None) -> list[tuple[str, str, str]]:
    """Prompts of a concept: with one of its words, with the anchor in its place, and the word; without templates the words alone.

    Where the anchor is empty, the rest of the sentence is the anchor ("a sketch of the woods"), or the empty text.
    """
    chosen = (
        evenly_spaced(
            [
                t
                for t in templates_for_kind(template_library(concept.kind), concept.kind)
                if concept.anchor or names_context(t)
            ],
            templates,
        )
        if templates
        else []
    )
    rows: dict[str, tuple[str, str, str]] = {}
    for word in words or concept.words:
        rows[word] = (word, concept.anchor, word)
        for template in chosen:
            prompt = fill_templates([template], [word])[0]
            rows[prompt] = (
                prompt,
                fill_templates([template], [concept.anchor])[0] if concept.anchor else remove_concept(template),
                word,
            )
    if words is None:
        rows |= {prompt: (prompt, concept.anchor, concept.name) for prompt in concept.prompts}
    return list(rows.values())


def prompts_naming(concept: Concept, templates: int) -> list[tuple[str, str, str]]:
    """Those of the `sentences` that name the concept: a whole prompt may show it without its word."""
    return [row for row in concept_prompts(concept, templates) if find_mention(row[0], [row[2]])]


def build_pairs(
    bank: EmbeddingCache, rows: Sequence[tuple[str, str, str]], tokens: str, bos_anchor: bool = False
) -> Pairs:
    """The pairs of prompts, each with weight 1.

    Args:
        bank: where the states come from.
        rows: as `sentences` gives them.
        tokens: one of `TOKENS`. ``tail`` and ``all`` match the states in order, ``tail`` so that what follows the concept
            meets itself; the anchor's first and last states stand for those beyond.
        bos_anchor: whether an empty anchor is the state of the first token, as in released code, instead of the end of text's.

    Raises:
        UnknownName: another choice of tokens. EffaceError: a concept that has no tokens, or is cut off by the context.
    """
    if tokens not in TOKENS:
        raise UnknownNameError("choice of tokens", tokens, TOKENS)
    bank.add(text for prompt, anchor, _ in rows for text in (prompt, anchor))
    parts = [_pair(bank, row, tokens, bos_anchor) for row in rows]
    source, anchor = (torch.cat([part[i] for part in parts]).T for i in (0, 1))
    texts = tuple(word for (_, _, word), part in zip(rows, parts, strict=True) for _ in range(len(part[0])))
    return Pairs(source, anchor, torch.ones(source.shape[1], dtype=torch.float64), texts)


def _pair(bank: EmbeddingCache, row: tuple[str, str, str], tokens: str, bos_anchor: bool) -> tuple[Tensor, Tensor]:
    prompt, anchor, word = row
    here, there, content = bank.states(prompt), bank.states(anchor), bank.places(word).content
    if not content:
        raise EffaceError(f"{word!r} has no tokens: name the concept in words that the text encoder knows")
    at, to = bank.places(prompt), bank.places(anchor)
    if tokens == "all":
        return here, there
    if tokens == "eos":
        if at.eos is None or to.eos is None:
            raise EffaceError("this tokenizer has no end of text: choose another of the tokens")
        return here[[at.eos]], there[[to.eos]]
    start = _end_of(prompt, word, at, bank)
    match = to.bos if bos_anchor and not to.content and to.bos is not None else _matching(start, at, to)
    follow = torch.arange(match, match + at.length - start).clamp(to.content[0] if to.content else 0, to.length - 1)
    if tokens == "last":
        return here[[start]], there[follow[:1]]
    return here[start:], there[follow]


def _end_of(prompt: str, word: str, at: TokenPositions, bank: EmbeddingCache) -> int:
    """The place of the last token of the word in the prompt: as many from the end as the rest of the sentence takes."""
    behind = prompt.rpartition(word)[2].strip() if word in prompt else ""
    after = len(bank.places(behind).content) if behind else 0
    return at.content[len(at.content) - 1 - after]


def _matching(start: int, at: TokenPositions, to: TokenPositions) -> int:
    """The place in the anchor's prompt that has as much of the sentence behind it; before its first token where it is too short."""
    after = len(at.content) - 1 - at.content.index(start)
    if not to.content:
        return to.last
    return to.content[-1] - after
