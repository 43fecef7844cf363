"""The states that each text encoder should give prompts once their concept is erased."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.models.editable import EditableModel
from efface.models.protocol import Tokens
from efface.ops.text.concept_tokens import locate_phrases
from efface.ops.text.state_alignment import align_states, permute_states


def concept_free_states(
    model: EditableModel,
    prompts: Sequence[str],
    phrases: Sequence[str],
    states: Tensor,
    context_tokens: Tokens,
    context_states: Tensor,
) -> Tensor:
    """Moves the states of prompts without their concept to the positions of the prompts with it.

    CLIP is causal: its positions before the concept stay (`align_states`). T5 is not: all its positions take a state of
    the prompt without the concept (`permute_states`).

    Args:
        model: provides the tokenizers.
        prompts: P prompts with the concept.
        phrases: the concept phrase of each prompt.
        states: the original encoders' states of the prompts, ``(P, L, D)``.
        context_tokens: tokens of the prompts without the concept.
        context_states: the original encoders' states of the prompts without the concept, ``(P, L, D)``.

    Returns:
        ``(P, L, D)``.

    Raises:
        EffaceError: a phrase that the context length cuts off.
    """
    tokens, phrase_tokens = model.tokenize(prompts), model.tokenize(phrases)
    if tokens.clip is None or phrase_tokens.clip is None or context_tokens.clip is None:
        located = locate_phrases(prompts, phrases, tokens, phrase_tokens)
        return align_states(located, states, context_tokens, context_states)
    t5_first = tokens.state_offset
    t5_states = permute_states(tokens, context_tokens, context_states[:, t5_first:])
    if not t5_first:
        return t5_states
    located = locate_phrases(prompts, phrases, tokens.clip, phrase_tokens.clip)
    clip_states = align_states(located, states[:, :t5_first], context_tokens.clip, context_states[:, :t5_first])
    return torch.cat([clip_states, t5_states], dim=1)
