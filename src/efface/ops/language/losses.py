"""Losses on next-token logits; all are means over the texts' own tokens, padding left out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from efface.models.causal_lm import TextTokens


def next_token_loss(logits: Tensor, tokens: TextTokens) -> Tensor:
    """Returns the mean negative log-likelihood of every token given those before it."""
    return _mean(_token_losses(logits, tokens), tokens)


def sequence_log_likelihood(logits: Tensor, tokens: TextTokens) -> Tensor:
    """Returns the log-likelihood of every text, ``(B,)``: the sum over its tokens."""
    return -(_token_losses(logits, tokens) * tokens.mask[:, 1:]).sum(-1)


def soft_cross_entropy(logits: Tensor, target: Tensor, tokens: TextTokens) -> Tensor:
    """Returns the mean cross-entropy with target distributions ``(B, L - 1, V)`` of the next token."""
    losses = -(target * logits[:, :-1].float().log_softmax(-1)).sum(-1)
    return _mean(losses, tokens)


def kl_divergence(logits: Tensor, reference: Tensor, tokens: TextTokens) -> Tensor:
    """Returns the mean KL divergence of the next-token distributions from those of the original model."""
    old = reference[:, :-1].float().log_softmax(-1)
    new = logits[:, :-1].float().log_softmax(-1)
    return _mean((old.exp() * (old - new)).sum(-1), tokens)


def masked_mean_square(difference: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean square of hidden states ``(B, L, D)`` over tokens where the mask ``(B, L)`` is 1."""
    weights = mask[..., None].to(difference)
    return (difference.square() * weights).sum() / (weights.sum() * difference.shape[-1]).clamp(min=1)


def _token_losses(logits: Tensor, tokens: TextTokens) -> Tensor:
    flat = logits[:, :-1].float().flatten(0, 1)
    return cross_entropy(flat, tokens.ids[:, 1:].flatten(), reduction="none").view(len(logits), -1)


def _mean(losses: Tensor, tokens: TextTokens) -> Tensor:
    weights = tokens.mask[:, 1:].to(losses)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def guided_target(
    plain: Tensor, positive: Tensor, negative: Tensor, strength: Tensor, top_k: int, temperature: float = 1.2
) -> Tensor:
    """Returns ELM's target distribution q: the plain prediction moved away from the expert's.

    log q_i = log P(x_i) - eta_i ( log P(x_i | expert) - log P(x_i | novice) ), of which the largest k entries stay.

    Args:
        plain: logits of the original model, ``(B, L, V)``.
        positive: its logits behind the expert's prompt, ``(B, L, V)``.
        negative: its logits behind the novice's prompt, ``(B, L, V)``.
        strength: eta by position, ``(L,)``.
        top_k: number of entries that stay.
        temperature: divides all logits.
    """
    old, expert, novice = (x.double().div(temperature).log_softmax(-1) for x in (plain, positive, negative))
    guided = old - strength.to(old)[None, :, None] * (expert - novice)
    k = min(top_k, guided.shape[-1])
    smallest = guided.topk(k, dim=-1).values[..., -1:]
    return guided.masked_fill(guided < smallest, float("-inf")).softmax(-1).float()


def linear_strengths(first: float, last: float, length: int) -> Tensor:
    """Returns ``length`` strengths spaced evenly from the first to the last, ``(length,)``."""
    return torch.linspace(first, last, max(length, 1), dtype=torch.float64)
