"""The effect check of a language model: answers and likelihoods before and after an erasure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.strength_advice import strength_advice
from efface.models.causal_lm import CausalLM
from efface.ops.editing.apply import applied

from .losses import kl_divergence

QUESTIONS = ("question: what is {}? answer:", "question: what is {} used for? answer:", "{} is", "you find {}")
NOOP_DIVERGENCE = 0.01
"""A smaller divergence of the concept's next-token distributions, in nats, counts as no change."""
RETAINED_WORDS = 4


@dataclass(frozen=True)
class TextPair:
    """The model's continuation of one prompt, before and after the erasure; ``group``: concept or retained."""

    group: str
    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class TextCheck:
    """How far an erasure moved the model's next-token distributions.

    Attributes:
        concept: mean KL divergence on the concept's prompts, in nats per token.
        retained: the same on the beginnings of retain prompts; None without retain prompts.
        num_changed: number of the concept's prompts whose continuation changed.
        pairs: the continuations.
        settings: names of the method's settings, of which the summary names those that help.
    """

    concept: float
    retained: float | None
    num_changed: int
    pairs: tuple[TextPair, ...] = field(default=(), repr=False, compare=False)
    settings: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers as plain JSON."""
        return {"concept": self.concept, "retained": self.retained, "num_changed": self.num_changed}

    def summary(self) -> str:
        """Describes the change in one line."""
        total = sum(pair.group == "concept" for pair in self.pairs)
        retained = "" if self.retained is None else f", on retain prompts by {self.retained:.2f}"
        change = (
            f"{self.num_changed} of {total} answers about the concept changed; next-token distributions moved by "
            f"{self.concept:.2f} nats{retained}"
        )
        is_noop = self.concept < NOOP_DIVERGENCE and not self.num_changed
        return f"NOTHING CHANGED: {change}; {strength_advice(self.settings, stronger=True)}" if is_noop else change


def check_finite_logits(model: CausalLM, concepts: Sequence[Concept]) -> None:
    """Runs one pass before any work, so that no training is lost on a broken model.

    Raises:
        EffaceError: its logits are not finite.
    """
    with torch.no_grad():
        logits = model.logits(model.tokenize([concepts[0].name]))
    if not bool(logits.isfinite().all()):
        raise EffaceError(f"the logits of {model.name} are not finite: choose another dtype (--dtype float32)")


@torch.no_grad()
def text_check(model: CausalLM, erasure: Erasure, count: int = 24) -> TextCheck:
    """Compares continuations and next-token distributions with and without the erasure.

    Args:
        model: the model without the erasure.
        erasure: the erasure.
        count: number of tokens of a continuation.
    """
    groups = [[question.format(c.name) for c in erasure.concepts for question in QUESTIONS]]
    retained = [" ".join(p.split()[:RETAINED_WORDS]) for c in erasure.concepts for p in c.retain_prompts][:8]
    groups += [retained] if retained else []
    tokens = [model.tokenize(group) for group in groups]

    def run() -> tuple[list[list[str]], list[Tensor]]:
        return [model.generate(group, count=count) for group in groups], [model.logits(batch) for batch in tokens]

    before, old = run()
    with applied(model, erasure):
        after, new = run()
    changes = [float(kl_divergence(n, o, t)) for n, o, t in zip(new, old, tokens, strict=True)]
    pairs = tuple(
        TextPair(name, prompt, one, two)
        for name, prompts, olds, news in zip(("concept", "retained"), groups, before, after, strict=False)
        for prompt, one, two in zip(prompts, olds, news, strict=True)
    )
    num_changed = sum(pair.before != pair.after for pair in pairs if pair.group == "concept")
    return TextCheck(changes[0], changes[1] if retained else None, num_changed, pairs, tuple(erasure.spec.config))
