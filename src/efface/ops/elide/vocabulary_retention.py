"""Retention of the model's whole vocabulary, hardest words first.

Every word that is not erased should keep its states. The words that an erasure takes along are measured, not listed in
advance: every few steps the drift of the held words w is computed in one random template,

    drift(w) = |E(p_w) - E*(p_w)|_M^2 / |E*("") - E*(p_w)|_M^2        (the mean over parts, `ConditioningDistance`),

with an exponential mean over the measurements. Half of each batch holds the words that drift most, half random ones:
SAGE's Top-K local retention (arXiv 2506.09363), applied to words instead of to a fixed set of prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.core.concept import PLACEHOLDER
from efface.models.protocol import Conditioning, Tokens
from efface.ops.training.hard_examples import HardExampleSampler
from efface.ops.training.student import Student

from .conditioning_distance import ConditioningDistance
from .vocabulary import ENCODE_BATCH

DECAY = 0.5
"""Weight of the earlier measurements in the exponential mean of the drift."""
SCAN_LIMIT = 4096
"""Most words that one measurement reads; of a larger vocabulary each measurement reads a random part."""


class VocabularyRetention:
    """The words that must stay, and a loss over those that drift most.

    Args:
        student: E beside E*.
        distance: measures distances in the denoiser's metric.
        words: the held words, W of them.
        templates: prompts with a ``{}`` in which they are held.

    Attributes:
        sampler: each word's drift, and the choice of the next batch; it goes into checkpoints.
    """

    def __init__(
        self, student: Student, distance: ConditioningDistance, words: Sequence[str], templates: Sequence[str]
    ) -> None:
        self.student = student
        self.distance = distance
        self.words = tuple(words)
        self.templates = tuple(templates)
        self.sampler = HardExampleSampler(len(self.words), DECAY)

    @torch.no_grad()
    def measure(self, generator: torch.Generator) -> None:
        """Measures the drift of the held words in one random template, up to the end of the longest prompt."""
        template = self.templates[int(torch.randint(len(self.templates), (1,), generator=generator))]
        rows = torch.arange(len(self.words))
        if len(rows) > SCAN_LIMIT:
            rows = torch.randperm(len(rows), generator=generator)[:SCAN_LIMIT]
        drifts = []
        for chunk in rows.split(ENCODE_BATCH):
            prompts = [template.replace(PLACEHOLDER, self.words[i]) for i in chunk.tolist()]
            drifts.append(self._drift(self.student.model.tokenize(prompts).without_padding()))
        self.sampler.update(torch.cat(drifts), rows)

    def loss(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Computes the mean drift of one batch, half random words and half hardest ones, in random templates."""
        words = self.sampler.sample(batch_size, generator).tolist()
        templates = torch.randint(len(self.templates), (len(words),), generator=generator).tolist()
        prompts = [self.templates[t].replace(PLACEHOLDER, self.words[w]) for t, w in zip(templates, words, strict=True)]
        return self._drift(self.student.model.tokenize(prompts)).mean()

    def most_drifted(self, count: int = 20) -> dict[str, float]:
        """Returns the held words that drift most, with their drift: what the erasure takes along."""
        return {self.words[i]: round(float(self.sampler.losses[i]), 4) for i in self.sampler.hardest(count)}

    def _drift(self, tokens: Tokens) -> Tensor:
        with torch.no_grad():
            original = self.student.model.encode(tokens)
        return conditioning_drift(self.distance, self.student.encode(tokens), original)


class RetainedStates:
    """The states of the retain prompts and of the empty prompt, which must stay.

    Args:
        student: E beside E*.
        distance: measures distances in the denoiser's metric.
        prompts: the retain prompts.
    """

    def __init__(self, student: Student, distance: ConditioningDistance, prompts: Sequence[str]) -> None:
        self.student = student
        self.distance = distance
        self.tokens = student.model.tokenize([*dict.fromkeys(prompt for prompt in prompts if prompt), ""])
        with torch.no_grad():
            self.original = student.model.encode(self.tokens)

    def loss(self) -> Tensor:
        """Computes the mean drift of the retain prompts, plus that of the empty prompt."""
        drift = conditioning_drift(self.distance, self.student.encode(self.tokens), self.original)
        return drift.mean() if len(drift) == 1 else drift[:-1].mean() + drift[-1]


def conditioning_drift(distance: ConditioningDistance, current: Conditioning, original: Conditioning) -> Tensor:
    """Computes |E(p) - E*(p)|_M^2 / |E*("") - E*(p)|_M^2 of B prompts, the mean over parts: ``(B,)``.

    The empty prompt has no distance to divide by; it is divided by the batch's mean distance.
    """
    ratios = []
    for moved, scale in zip(distance(current, original), distance.from_empty(original), strict=True):
        mean = scale.mean()
        ratios.append(moved / torch.where(scale > 1e-3 * mean, scale, mean))
    return torch.stack(ratios).mean(0)
