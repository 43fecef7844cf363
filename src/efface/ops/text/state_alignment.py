"""Alignment of the states of prompts without their concept to the token positions of the full prompts."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

import torch
from torch import Tensor

from efface.models.protocol import Tokens

from .concept_tokens import ConceptTokens


def align_states(
    prompt_tokens: ConceptTokens, states: Tensor, context_tokens: Tokens, context_states: Tensor
) -> Tensor:
    """Moves the states of prompts without the concept to the token positions of the prompts with it.

    Cross-attention reads a set of states: the denoiser predicts the same noise if the same states are at other
    positions. Each position therefore takes the state of its own token in the prompt without the concept. A causal text
    encoder does not know the following tokens, so the positions before the concept keep the full prompt's states. The
    concept's positions repeat the state of the position before them. The state of the padding would bring these
    positions closer to the denoiser's image, but it depends on the following tokens: an encoder trained towards it
    learns a mean of all backgrounds.

    Args:
        prompt_tokens: the prompts with the concept, P of them.
        states: the original encoder's states of these prompts, ``(P, L, D)``; states behind the tokens stay.
        context_tokens: tokens of the prompts without the concept.
        context_states: the original encoder's states of the prompts without the concept, ``(P, L, D)``.

    Returns:
        ``(P, L, D)``.
    """
    aligned = states.clone()
    first_concept = prompt_tokens.concept_mask().int().argmax(1).tolist()
    length = prompt_tokens.context_mask.shape[1]
    pairs = zip(_ids_before_eos(prompt_tokens.tokens), _ids_before_eos(context_tokens), strict=True)
    for row, (ids, context_ids) in enumerate(pairs):
        source = _matching_positions(ids, context_ids)
        padding = range(length - max(len(ids), len(context_ids)))
        source |= {len(ids) + i: len(context_ids) + i for i in padding}
        for position in range(first_concept[row], length):
            if position in source:
                aligned[row, position] = context_states[row, source[position]]
            else:
                aligned[row, position] = aligned[row, position - 1]
    return aligned


def permute_states(tokens: Tokens, context_tokens: Tokens, context_states: Tensor) -> Tensor:
    """Moves the states of prompts without the concept to the positions of the prompts with it, each state once.

    For a text encoder that is not causal, such as T5: every position knows the whole prompt, so that each can be
    trained towards a state of the prompt without the concept. The transformers of FLUX and SD3 give text tokens no
    positions and attend to the padding as well: they read a set of states. A permutation of the concept-free states is
    therefore the same conditioning to them.

    A token takes its own state in the prompt without the concept, and padding the padding's at the same position. The
    concept's tokens, and words that only the prompt with it has, take the remaining states in order: those of the
    padding that makes the shorter prompt as long.

    Args:
        tokens: tokens of the P prompts with the concept.
        context_tokens: tokens of the prompts without the concept, of the same length L.
        context_states: the original encoder's states of the prompts without the concept, ``(P, L, D)``.

    Returns:
        ``(P, L, D)``.
    """
    length = tokens.ids.shape[1]
    sources = []
    for ids, context_ids in zip(_ids_before_eos(tokens), _ids_before_eos(context_tokens), strict=True):
        source = _matching_positions(ids, context_ids) | {len(ids): len(context_ids)}
        source |= {position: position for position in range(max(len(ids), len(context_ids)) + 1, length)}
        remaining = iter(sorted(set(range(length)) - set(source.values())))
        sources.append([source[i] if i in source else next(remaining) for i in range(length)])
    index = torch.tensor(sources, device=context_states.device)
    return context_states.gather(1, index[..., None].expand_as(context_states))


def _matching_positions(ids: Sequence[int], context_ids: Sequence[int]) -> dict[int, int]:
    """Returns, by position in a prompt, the position of the same token in the prompt without the concept."""
    blocks = SequenceMatcher(a=ids, b=context_ids, autojunk=False).get_matching_blocks()
    return {block.a + i: block.b + i for block in blocks for i in range(block.size)}


def _ids_before_eos(tokens: Tokens) -> list[list[int]]:
    """Returns each prompt's token ids before EOS, BOS included."""
    return [ids[:end] for ids, end in zip(tokens.ids.tolist(), tokens.eos.tolist(), strict=True)]
