"""MACE's harmonic means of efficacy, specificity and generality: one number that any one failure drags down.

    H_o = 3 / (1 / (1 - Acc_e) + 1 / Acc_s + 1 / (1 - Acc_g))          objects
    H_c = 2 / (1 / (1 - Acc_e) + 1 / Acc_s)                            celebrities

Acc_e: how often prompts with the erased name show the concept; Acc_g: prompts with its synonyms; Acc_s: how often prompts of other
objects show theirs, after the erasure (MACE, arXiv 2403.06135). 0 where a term is 0.

Where we differ: accuracies are rates of a judge's hits over all images. MACE's object accuracy is a mean CLIP probability, and its
celebrity accuracy leaves out images without a face, so that published numbers are on another scale.

Interval: each term is moved to its own bound alone, and the excursions are added in squares (Zou and Donner 2008, Statistics in
Medicine 27, 1693), at most to where all terms are at their bounds; terms rest on different prompts and are taken as independent. It
has width where a bootstrap has none.

How it can be fooled: Acc_s is measured against nothing, so that a weak base model cannot reach 1; and it is one mean over all others,
which hides a single lost one. A destroyed model has perfect efficacy and generality, but no specificity: 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from efface.core.score import DetectorId, Provenance, Score
from efface.core.serialization import json_hash

from .detections import Detections, Expected
from .rate_score import rate_score


def h_o(
    after: Detections, target: Expected, *, rng: np.random.Generator, provenance: Provenance,
    name: str = "name", synonyms: str = "domain", others: Sequence[str] = ("near", "other"),
) -> Score:  # fmt: skip
    """MACE's H_o, of efficacy, specificity and generality, from what the edited model's images of these groups show."""
    efficacy = absence(after, name, target, metric="efficacy", rng=rng, provenance=provenance)
    generality = absence(after, synonyms, target, metric="generality", rng=rng, provenance=provenance)
    return harmonic_mean(
        "h_o", [efficacy, specificity(after, others, target, rng=rng, provenance=provenance), generality]
    )


def h_c(
    after: Detections, target: Expected, *, rng: np.random.Generator, provenance: Provenance,
    name: str = "name", others: Sequence[str] = ("near", "other"),
) -> Score:  # fmt: skip
    """MACE's H_c, of efficacy and specificity, from what the edited model's images of these groups show."""
    efficacy = absence(after, name, target, metric="efficacy", rng=rng, provenance=provenance)
    return harmonic_mean("h_c", [efficacy, specificity(after, others, target, rng=rng, provenance=provenance)])


def absence(
    after: Detections, group: str, target: Expected, *, metric: str, rng: np.random.Generator, provenance: Provenance
) -> Score:
    """``1 - Acc``: the share of a group's images in which the concept is not seen."""
    rows = after.rows(group)
    return rate_score(
        metric, group, [not row.shows(target) for row in rows], rows, rng, after.detector(target.head), provenance
    )


def specificity(
    after: Detections, others: Sequence[str], target: Expected, *, rng: np.random.Generator, provenance: Provenance
) -> Score:
    """``Acc_s``: the share of the other prompts' images that show what was asked for, by the target's head."""
    rows = [row for row in after.rows(*others) if target.head in row.prompt.expected_classes]
    hits = [row.matches_expected([target.head]) for row in rows]
    return rate_score("specificity", "+".join(others), hits, rows, rng, after.detector(target.head), provenance)


def harmonic_mean(metric: str, terms: Sequence[Score], group: str = "all") -> Score:
    """The harmonic mean of rates with its interval; None where a term is None. `n` is the number of images of all terms.

    Raises:
        ValueError: no terms, or one that is not in [0, 1].
    """
    if not terms:
        raise ValueError("no terms to take a mean of")
    detector, how = _common(terms)
    n = sum(term.n for term in terms)
    values, lows, highs = [t.value for t in terms], [t.low for t in terms], [t.high for t in terms]
    known, low, high = _all(values), _all(lows), _all(highs)
    if known is None:
        return Score(metric, group, None, None, None, n, detector, how)
    value = _mean(known)
    if low is None or high is None:
        return Score(metric, group, value, None, None, n, detector, how)
    down = math.hypot(*(value - _mean(_with(known, i, low[i])) for i in range(len(known))))
    up = math.hypot(*(_mean(_with(known, i, high[i])) - value for i in range(len(known))))
    top = value + up if value > 0 else math.inf  # with two terms at 0, moving one alone moves nothing
    return Score(metric, group, value, max(value - down, _mean(low)), min(top, _mean(high)), n, detector, how)


def _mean(terms: Sequence[float]) -> float:
    if not all(0 <= term <= 1 for term in terms):
        raise ValueError(f"terms of a harmonic mean must be rates, not {terms}")
    return len(terms) / sum(1 / term for term in terms) if all(terms) else 0.0


def _with(terms: Sequence[float], index: int, value: float) -> list[float]:
    return [*terms[:index], value, *terms[index + 1 :]]


def _all(numbers: Sequence[float | None]) -> list[float] | None:
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else None


def _common(terms: Sequence[Score]) -> tuple[DetectorId | None, Provenance]:
    """The detector that all terms share, and a provenance that holds the terms."""
    first, hows = terms[0], [term.provenance for term in terms]
    parts = {
        term.metric: {"group": term.group, "value": term.value, "n": term.n, "prompts": term.provenance.prompts}
        for term in terms
    }
    how = replace(
        first.provenance,
        prompts=json_hash([each.prompts for each in hows]),
        seeds=tuple(sorted({seed for each in hows for seed in each.seeds})),
        extra={**first.provenance.extra, "terms": parts},
    )
    return first.detector if all(term.detector == first.detector for term in terms) else None, how
