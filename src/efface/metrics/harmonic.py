"""MACE's harmonic means of efficacy, specificity and generality: one number that any single failure lowers.

    H_o = 3 / (1 / (1 - Acc_e) + 1 / Acc_s + 1 / (1 - Acc_g))          objects
    H_c = 2 / (1 / (1 - Acc_e) + 1 / Acc_s)                            celebrities

Acc_e: how often prompts with the erased name show the concept; Acc_g: prompts with its synonyms; Acc_s: how often
prompts of other objects show theirs, after the erasure (MACE, arXiv 2403.06135). 0 where a term is 0.

Where we differ: accuracies are a detector's hit rates over all images. MACE's object accuracy is a mean CLIP
probability, and its celebrity accuracy leaves out images without a face, so published numbers are on another scale.

Interval: each term moves to its own bound alone, and the root of the summed squares of these excursions is the half
width (Zou and Donner 2008, Statistics in Medicine 27, 1693), limited to the value with all terms at their bounds. The
terms use different prompts and count as independent. The interval has width where a bootstrap has none.

How it can be fooled: Acc_s has no reference, so a weak base model cannot reach 1. It is one mean over all other
objects, which hides a single lost one. A destroyed model has perfect efficacy and generality but no specificity: 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from efface.core.score import DetectorId, Provenance, Score
from efface.core.serialization import json_hash

from .detections import Detections, TargetClasses
from .rate_score import rate_score


def h_o(
    after: Detections,
    target: TargetClasses,
    *,
    rng: np.random.Generator,
    provenance: Provenance,
    name_group: str = "name",
    synonym_group: str = "domain",
    other_groups: Sequence[str] = ("near", "other"),
) -> Score:
    """MACE's H_o: harmonic mean of efficacy, specificity and generality of the edited model's images."""
    efficacy = absence_rate(after, name_group, target, metric="efficacy", rng=rng, provenance=provenance)
    generality = absence_rate(after, synonym_group, target, metric="generality", rng=rng, provenance=provenance)
    return harmonic_mean(
        "h_o", [efficacy, specificity(after, other_groups, target, rng=rng, provenance=provenance), generality]
    )


def h_c(
    after: Detections,
    target: TargetClasses,
    *,
    rng: np.random.Generator,
    provenance: Provenance,
    name_group: str = "name",
    other_groups: Sequence[str] = ("near", "other"),
) -> Score:
    """MACE's H_c: harmonic mean of efficacy and specificity of the edited model's images."""
    efficacy = absence_rate(after, name_group, target, metric="efficacy", rng=rng, provenance=provenance)
    return harmonic_mean("h_c", [efficacy, specificity(after, other_groups, target, rng=rng, provenance=provenance)])


def absence_rate(
    after: Detections,
    group: str,
    target: TargetClasses,
    *,
    metric: str,
    rng: np.random.Generator,
    provenance: Provenance,
) -> Score:
    """``1 - Acc``: share of a group's images that do not show the concept."""
    rows = after.rows(group)
    hits = [not row.shows(target) for row in rows]
    return rate_score(metric, group, hits, rows, rng, after.detector(target.head), provenance)


def specificity(
    after: Detections,
    other_groups: Sequence[str],
    target: TargetClasses,
    *,
    rng: np.random.Generator,
    provenance: Provenance,
) -> Score:
    """``Acc_s``: share of the other groups' images that show the expected class, by the target's head."""
    rows = [row for row in after.rows(*other_groups) if target.head in row.prompt.expected_classes]
    hits = [row.matches_expected([target.head]) for row in rows]
    return rate_score("specificity", "+".join(other_groups), hits, rows, rng, after.detector(target.head), provenance)


def harmonic_mean(metric: str, terms: Sequence[Score], group: str = "all") -> Score:
    """Harmonic mean of rates with its interval; None where a term is None. `n` counts the images of all terms.

    Raises:
        ValueError: no terms, or a term outside [0, 1].
    """
    if not terms:
        raise ValueError("a harmonic mean needs at least one term")
    detector, provenance = _combined_provenance(terms)
    n = sum(term.n for term in terms)
    known = _all_known([term.value for term in terms])
    low = _all_known([term.low for term in terms])
    high = _all_known([term.high for term in terms])
    if known is None:
        return Score(metric, group, None, None, None, n, detector, provenance)
    value = _harmonic(known)
    if low is None or high is None:
        return Score(metric, group, value, None, None, n, detector, provenance)
    down = math.hypot(*(value - _harmonic(_with_term(known, i, low[i])) for i in range(len(known))))
    up = math.hypot(*(_harmonic(_with_term(known, i, high[i])) - value for i in range(len(known))))
    top = value + up if value > 0 else math.inf  # with two terms at 0, moving one alone changes nothing
    lowest, highest = max(value - down, _harmonic(low)), min(top, _harmonic(high))
    return Score(metric, group, value, lowest, highest, n, detector, provenance)


def _harmonic(terms: Sequence[float]) -> float:
    if not all(0 <= term <= 1 for term in terms):
        raise ValueError(f"terms of a harmonic mean must be rates, not {terms}")
    return len(terms) / sum(1 / term for term in terms) if all(terms) else 0.0


def _with_term(terms: Sequence[float], index: int, value: float) -> list[float]:
    return [*terms[:index], value, *terms[index + 1 :]]


def _all_known(numbers: Sequence[float | None]) -> list[float] | None:
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else None


def _combined_provenance(terms: Sequence[Score]) -> tuple[DetectorId | None, Provenance]:
    """The detector that all terms share (None where they differ), and a provenance that lists the terms."""
    first = terms[0]
    parts = {
        term.metric: {"group": term.group, "value": term.value, "n": term.n, "prompts": term.provenance.prompts}
        for term in terms
    }
    provenance = replace(
        first.provenance,
        prompts=json_hash([term.provenance.prompts for term in terms]),
        seeds=tuple(sorted({seed for term in terms for seed in term.provenance.seeds})),
        extra={**first.provenance.extra, "terms": parts},
    )
    same_detector = all(term.detector == first.detector for term in terms)
    return first.detector if same_detector else None, provenance
