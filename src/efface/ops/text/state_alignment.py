"""Alignment of the states of prompts without their concept to the token positions of the full prompts."""

from __future__ import annotations

from difflib import SequenceMatcher

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
        states: the original encoder's states of these prompts, ``(P, L, D)``.
        context_tokens: tokens of the prompts without the concept.
        context_states: the original encoder's states of the prompts without the concept, ``(P, L, D)``.

    Returns:
        ``(P, L, D)``.
    """
    aligned = states.clone()
    first_concept = prompt_tokens.concept_mask().int().argmax(1).tolist()
    length = states.shape[1]
    pairs = zip(_ids_before_eos(prompt_tokens.tokens), _ids_before_eos(context_tokens), strict=True)
    for row, (ids, context_ids) in enumerate(pairs):
        blocks = SequenceMatcher(a=ids, b=context_ids, autojunk=False).get_matching_blocks()
        source = {block.a + i: block.b + i for block in blocks for i in range(block.size)}
        padding = range(length - max(len(ids), len(context_ids)))
        source |= {len(ids) + i: len(context_ids) + i for i in padding}
        for position in range(first_concept[row], length):
            if position in source:
                aligned[row, position] = context_states[row, source[position]]
            else:
                aligned[row, position] = aligned[row, position - 1]
    return aligned


def _ids_before_eos(tokens: Tokens) -> list[list[int]]:
    """Returns each prompt's token ids before EOS, BOS included."""
    return [ids[:end] for ids, end in zip(tokens.ids.tolist(), tokens.eos.tolist(), strict=True)]
