"""Sampling of text from a causal language model: greedy or at random, with a seeded generator of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Combine = Callable[[Tensor], Tensor]
"""Maps the next-token logits of all rows ``(R, V)`` to those of the generated texts ``(B, V)``; B divides R."""


@torch.no_grad()
def generate_ids(
    module: nn.Module,
    ids: Tensor,
    mask: Tensor,
    *,
    count: int,
    end: int | None,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    combine: Combine | None = None,
) -> Tensor:
    """Continues left-padded prompts.

    Args:
        module: the language model.
        ids: token ids ``(R, L)``, padded on the left.
        mask: 1 for tokens, 0 for padding, ``(R, L)``.
        count: number of tokens to generate.
        end: id after which a text ends; further tokens of it are ``end``.
        temperature: 0 takes the likeliest token; else tokens are sampled.
        generator: draws the tokens, on the CPU; needed with a temperature.
        combine: see `Combine`; row i of the texts continues rows i, B + i, 2 B + i, ... of the prompts.

    Returns:
        The generated ids ``(B, count)`` on the CPU.
    """
    past, step_ids, tokens = None, ids, []
    finished = torch.zeros(0, dtype=torch.bool)
    for _ in range(count):
        inputs = {"input_ids": step_ids, "attention_mask": mask, "position_ids": _positions(mask, step_ids.shape[1])}
        out = module(**inputs, past_key_values=past, use_cache=True)
        past, logits = out.past_key_values, out.logits[:, -1].float().cpu()
        chosen = _choose(logits if combine is None else combine(logits), temperature, generator)
        chosen, finished = _end_texts(chosen, finished, end)
        tokens.append(chosen)
        step_ids = chosen.repeat(len(ids) // len(chosen))[:, None].to(ids.device)
        mask = torch.cat([mask, mask.new_ones(len(ids), 1)], dim=1)
        if bool(finished.all()):
            break
    return torch.stack(tokens, dim=1)


def _positions(mask: Tensor, count: int) -> Tensor:
    """Returns the positions of the last ``count`` tokens, which padding does not count towards."""
    return (mask.cumsum(-1) - 1).clamp(min=0)[:, -count:]


def _end_texts(chosen: Tensor, finished: Tensor, end: int | None) -> tuple[Tensor, Tensor]:
    """Replaces tokens behind a text's end; returns the tokens and which texts are finished, both ``(B,)``."""
    finished = finished if len(finished) else torch.zeros_like(chosen, dtype=torch.bool)
    if end is None:
        return chosen, finished
    chosen = chosen.masked_fill(finished, end)
    return chosen, finished | (chosen == end)


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Returns one token id for each row of logits."""
    if not temperature:
        return logits.argmax(-1)
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
