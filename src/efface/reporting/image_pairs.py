"""Pairs of images for the page: data URIs, the detector's classes, and whether the prompt's content is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from efface.core.result import Result
from efface.core.score import Score
from efface.core.verdict import TARGETS

from .data_uris import data_uri
from .evidence import ImagePair, LoadedEvaluation
from .labels import EFFECT_GROUPS, GROUPS

CANNOT_TELL = "cannot tell"
"""Class that the detector reports when it recognises nothing."""
SHOWN_METRICS = ("rer", "abstention_rate", "retention", "asr_pre", "asr_post")
"""Metrics printed beside a group's images."""

Outcome = Literal["good", "bad", "neutral", "unsure"]


@dataclass(frozen=True)
class ImageView:
    """One image of a pair.

    Attributes:
        uri: Data URI; empty if the file is missing or damaged.
        pixelated: Whether the browser shows sharp pixels.
        detections: Classes that the detector reports, one per head.
    """

    uri: str
    pixelated: bool
    detections: str


@dataclass(frozen=True)
class PairView:
    """A pair of images and its outcome.

    Attributes:
        pair: Prompt, seed and files.
        before: Image before the erasure; None if none was generated.
        after: Image after the erasure; None if none was generated.
        outcome_label: The outcome in words; empty if it is unknown.
        outcome: Rating of the outcome.
    """

    pair: ImagePair
    before: ImageView | None
    after: ImageView | None
    outcome_label: str
    outcome: Outcome


@dataclass(frozen=True)
class PairGrid:
    """The pairs of one group.

    Attributes:
        group: Group of the benchmark, or name of an attack.
        label: Heading.
        meaning: What the group's prompts are.
        is_attack: Whether the group is an attack.
        pairs: The pairs of images.
        scores: Scores of the group.
    """

    group: str
    label: str
    meaning: str
    is_attack: bool
    pairs: tuple[PairView, ...]
    scores: tuple[Score, ...]


def pair_grids(evaluation: LoadedEvaluation) -> list[PairGrid]:
    """One grid for each group with images: the concept's groups, the retained groups, then attacks."""
    by_group: dict[str, list[ImagePair]] = {group: [] for group in ("name", "domain", "near", "other")}
    for pair in evaluation.pairs:
        by_group.setdefault(pair.group, []).append(pair)
    head, classes = concept_head(evaluation.pairs)
    return [_grid(group, pairs, evaluation.result, head, classes) for group, pairs in by_group.items() if pairs]


def effect_grids(pairs: Sequence[ImagePair]) -> list[PairGrid]:
    """One grid each for the concept's and the retain prompts' images of the effect check, which no detector judged."""
    grids = []
    for group, (label, meaning) in EFFECT_GROUPS.items():
        views = tuple(_pair_view(pair, None, None) for pair in pairs if pair.group == group)
        if views:
            grids.append(PairGrid(group, label, meaning, False, views, ()))
    return grids


def concept_head(pairs: Sequence[ImagePair]) -> tuple[str | None, frozenset[str]]:
    """Finds the detector head that recognises the concept, and the concept's classes.

    All prompts with the concept's name expect the same classes of that head, and no prompt of the groups near and other
    expects one of them. Returns None and no classes if not exactly one head qualifies.
    """
    named = [pair for pair in pairs if pair.group == "name"]
    candidates = []
    for head in sorted({head for pair in named for head in pair.expected}):
        expected = {frozenset(pair.expected.get(head, ())) for pair in named}
        retained = {name for pair in pairs if pair.group in ("near", "other") for name in pair.expected.get(head, ())}
        classes = next(iter(expected))
        if len(expected) == 1 and not classes & retained:
            candidates.append((head, classes))
    return candidates[0] if len(candidates) == 1 else (None, frozenset())


def _grid(
    group: str, pairs: Sequence[ImagePair], result: Result, head: str | None, classes: frozenset[str]
) -> PairGrid:
    is_attack = group not in GROUPS
    label, meaning = GROUPS.get(group, (f"Attack: {group}", "Prompts that an attack made to bring the concept back."))
    should_be_erased = is_attack or group in TARGETS
    views = tuple(_pair_view(pair, head, classes if should_be_erased else None) for pair in pairs)
    scores = tuple(score for name in SHOWN_METRICS if (score := result.score(name, group)) is not None)
    return PairGrid(group, label, meaning, is_attack, views, scores)


def _pair_view(pair: ImagePair, head: str | None, erased_classes: frozenset[str] | None) -> PairView:
    """View of a pair; ``erased_classes`` is None for prompts that must be retained."""
    label = ""
    outcome: Outcome = "neutral"
    if head is not None and head in pair.detected_after:
        before, after = pair.detected_before.get(head), pair.detected_after[head]
        if erased_classes is None:
            label, outcome = _retention_outcome(before, after, frozenset(pair.expected.get(head, ())))
        else:
            label, outcome = _erasure_outcome(before, after, erased_classes)
    before_view = _image_view(pair.before, pair.detected_before)
    return PairView(pair, before_view, _image_view(pair.after, pair.detected_after), label, outcome)


def _erasure_outcome(before: str | None, after: str, classes: frozenset[str]) -> tuple[str, Outcome]:
    """Outcome for a prompt of the concept, from the detected classes before and after."""
    if not classes:
        return "", "neutral"
    if after in classes:
        return "concept detected", "bad"
    if after == CANNOT_TELL:
        return "cannot tell", "unsure"
    if before is not None and before not in classes:
        return "not detected before either", "neutral"
    return "erased", "good"


def _retention_outcome(before: str | None, after: str, classes: frozenset[str]) -> tuple[str, Outcome]:
    """Outcome for a prompt that must be retained, from the detected classes before and after."""
    if not classes:
        return "", "neutral"
    if after in classes:
        return "retained", "good"
    if before is not None and before not in classes:
        return "wrong before as well", "neutral"
    return "lost", "bad"


def _image_view(path: Path | None, detected: Mapping[str, str]) -> ImageView | None:
    if path is None:
        return None
    detections = "\u00a0· ".join(str(value) for value in detected.values())
    try:
        uri, pixelated = data_uri(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ImageView("", False, detections)
    return ImageView(uri, pixelated, detections)
