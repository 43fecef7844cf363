"""Pairs of the tokens around a concept, aligned with the same prompt about the anchor (MACE, arXiv 2403.06135)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from efface.models.editable import EditableModel

from .embedding_cache import EmbeddingCache
from .problem import Pairs
from .state_pairs import PromptPair


def co_occurring_pairs(model: EditableModel, cache: EmbeddingCache, prompt_pairs: Sequence[PromptPair]) -> Pairs:
    """Returns pairs of the tokens that two prompts share (`align_tokens`), each with weight 1.

    The encoder passes the concept on to the tokens behind its name: the states of these tokens are moved. Tokens of the
    name that the anchor shares are paired as well, as in the released code.

    Args:
        model: the model, for its tokenizer.
        cache: embeddings of the prompts.
        prompt_pairs: prompts with their anchor prompts and the concept's word in the prompt.

    Raises:
        EffaceError: a prompt longer than the context.
    """
    cache.add(text for prompt, anchor_prompt, _ in prompt_pairs for text in (prompt, anchor_prompt))
    prompts = [prompt for prompt, _, _ in prompt_pairs]
    tokens = model.tokenize(prompts)
    anchor_tokens = model.tokenize([anchor_prompt for _, anchor_prompt, _ in prompt_pairs])
    source, target, texts = [], [], []
    for i, (prompt, anchor_prompt, word) in enumerate(prompt_pairs):
        aligned = align_tokens(
            tokens.ids[i].tolist(), int(tokens.eos[i]), anchor_tokens.ids[i].tolist(), int(anchor_tokens.eos[i])
        )
        for position, anchor_position in aligned:
            source.append(cache.states(prompt)[position])
            target.append(cache.states(anchor_prompt)[anchor_position])
            texts.append(word)
    weight = torch.ones(len(source), dtype=torch.float64)
    return Pairs(torch.stack(source, 1), torch.stack(target, 1), weight, tuple(texts))


def align_tokens(ids: Sequence[int], eos: int, other_ids: Sequence[int], other_eos: int) -> list[tuple[int, int]]:
    """Returns the positions of the tokens that two prompts share.

    These are the common prefix, the common suffix before the end of text, and the end of text with the padding.

    Args:
        ids: token ids of one prompt, ``(L,)``.
        eos: position of its end of text.
        other_ids: token ids of the other prompt, ``(L,)``.
        other_eos: position of its end of text.
    """
    shorter = min(eos, other_eos)
    prefix = next((i for i in range(shorter) if ids[i] != other_ids[i]), shorter)
    longest = shorter - prefix
    suffix = next((i for i in range(longest) if ids[eos - 1 - i] != other_ids[other_eos - 1 - i]), longest)
    padding = min(len(ids) - eos, len(other_ids) - other_eos)
    return [*((i, i) for i in range(prefix)), *((eos + i, other_eos + i) for i in range(-suffix, padding))]
