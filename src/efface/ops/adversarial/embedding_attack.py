"""Embedding attack: optimises token embeddings of a prompt so that the text encoder encodes an erased concept again.

It is the inside-out search of SAGE (arXiv 2506.09363) and runs no denoiser. E* is the original text encoder, E the
encoder under attack, p the prompt, c the reference of the concept and s a similarity (`efface.ops.text.similarity`).
The attack maximises

    concept_weight * s(E*(p), E*(c)) + term

The first summand keeps the prompt at the concept, as the original encodes it. The objective determines the term:

    hide_concept       -s(E(p), E(c))       E does not recognise the erased concept in the prompt
    stay_unchanged      s(E(p), E*(p))      the erasure does not change the prompt
    recover_concept     s(E(p), E*(c))      E still encodes the concept as the denoiser reads it
    diverge            -s(E(p), E*(p))      the literal wording of a summary of SAGE
    concept_only        0

We found no accessible publication of SAGE's equations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.errors import EffaceError, UnknownNameError
from efface.models.soft_prompt import SoftTokens
from efface.ops.text.concept_tokens import ConceptTokens

from .attack_objective import OBJECTIVES, AttackObjective, AttackTarget

ATTACK_TOKENS = ("template", "all")


@dataclass(frozen=True)
class EmbeddingAttack:
    """Settings of the attack.

    Attributes:
        objective: one of `OBJECTIVES`.
        concept_weight: weight of the similarity to the concept under the original encoder; 0 leaves it out.
        steps: Adam steps.
        learning_rate: Adam's learning rate, in units of the mean norm of a token embedding.
        attack_tokens: tokens to optimise: ``template`` for those around the concept, ``all`` for the concept's too.
        random_init_prob: probability that a prompt starts from random words of the vocabulary instead of its own.

    Raises:
        UnknownNameError: an unknown objective or choice of tokens.
    """

    objective: str = "recover_concept"
    concept_weight: float = 1.0
    steps: int = 30
    learning_rate: float = 0.1
    attack_tokens: str = "template"
    random_init_prob: float = 0.0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UnknownNameError("attack objective", self.objective, OBJECTIVES)
        if self.attack_tokens not in ATTACK_TOKENS:
            raise UnknownNameError("choice of attack tokens", self.attack_tokens, ATTACK_TOKENS)


def inside_out(
    attack: EmbeddingAttack,
    target: AttackTarget,
    prompt_tokens: ConceptTokens,
    concept_only: ConceptTokens,
    *,
    generator: torch.Generator | None = None,
    start_embeddings: Tensor | None = None,
) -> tuple[SoftTokens, Tensor]:
    """Attacks all prompts of a batch at once.

    Args:
        attack: the settings.
        target: the encoder under attack and its original.
        prompt_tokens: the prompts.
        concept_only: the concept phrase alone, for each prompt or for all.
        generator: of the random words, on the CPU.
        start_embeddings: embeddings ``(B, L, D)`` to start from; by default `initial_embeddings`.

    Returns:
        The optimised embeddings, ``(B, L, D)``, and the objective that they reach, ``(B,)``.

    Raises:
        EffaceError: a prompt that is the concept phrase alone, without a token to optimise.
    """
    prompt_tokens = target.similarity.trim_unused_padding(prompt_tokens)
    mask = _optimised_mask(attack, prompt_tokens)
    objective = AttackObjective(attack.objective, attack.concept_weight, target, prompt_tokens, concept_only)
    table = target.table.float()
    if start_embeddings is None:
        embeddings = initial_embeddings(attack, prompt_tokens, table, generator)
    else:
        embeddings = start_embeddings[:, : mask.shape[1]].clone()
    _optimise(attack, embeddings, mask, table, lambda current: objective(SoftTokens(current, mask)))
    soft = SoftTokens(embeddings.detach(), mask)
    with torch.no_grad():
        return soft, objective(soft)


def initial_embeddings(
    attack: EmbeddingAttack, prompt_tokens: ConceptTokens, table: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Returns the prompts' own embeddings, ``(B, L, D)``, with random words as the context of some prompts."""
    embeddings = table[prompt_tokens.tokens.ids].clone()
    if not attack.random_init_prob:
        return embeddings
    rows, length = prompt_tokens.context_mask.shape
    random_words = table[torch.randint(len(table), (rows, length), generator=generator).to(table.device)]
    is_random = (torch.rand(rows, 1, generator=generator) < attack.random_init_prob).to(table.device)
    return torch.where((prompt_tokens.context_mask & is_random)[..., None], random_words, embeddings)


def _optimised_mask(attack: EmbeddingAttack, prompt_tokens: ConceptTokens) -> Tensor:
    """Returns the mask of the tokens to optimise, bool ``(B, L)``."""
    mask = prompt_tokens.context_mask
    if attack.attack_tokens == "all":
        mask = mask | prompt_tokens.concept_mask()
    if not bool(mask.any(1).all()):
        raise EffaceError("a prompt has nothing but the concept in it: give templates with a context around {}")
    return mask


def _optimise(
    attack: EmbeddingAttack, embeddings: Tensor, mask: Tensor, table: Tensor, objective: Callable[[Tensor], Tensor]
) -> None:
    """Maximises the objective in place; norms stay between the vocabulary's 5th and 95th percentile."""
    embeddings.requires_grad_(True)
    norms = table.norm(dim=-1)
    low, high = norms.quantile(0.05), norms.quantile(0.95)
    learning_rate = attack.learning_rate * float(norms.mean()) / table.shape[1] ** 0.5
    optimiser = torch.optim.Adam([embeddings], lr=learning_rate)
    for _ in range(attack.steps):
        (gradient,) = torch.autograd.grad(-objective(embeddings).sum(), embeddings)
        embeddings.grad = gradient * mask[..., None]
        optimiser.step()
        with torch.no_grad():
            norm = embeddings.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            embeddings.mul_(norm.clamp(low, high) / norm)
