"""The evidence of an erasure as the report reads it: losses, evaluations with their images, and attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface.core.erasure import Erasure
from efface.core.result import Result
from efface.core.verdict import Verdict

from .text_tables import TextTable


@dataclass(frozen=True)
class ImagePair:
    """Two images of one prompt and seed, generated before and after the erasure.

    Attributes:
        group: Group of the benchmark, or name of an attack.
        prompt: Prompt of the benchmark.
        prompt_given: Prompt given to the model, which an attack may have changed.
        seed: Seed of both images.
        before: Image file; None if no image was generated.
        after: Image file; None if no image was generated.
        detected_before: Class that the detector reports, by head.
        detected_after: Class that the detector reports, by head.
        expected: Accepted classes, by head.
    """

    group: str
    prompt: str
    prompt_given: str
    seed: int
    before: Path | None
    after: Path | None
    detected_before: Mapping[str, str]
    detected_after: Mapping[str, str]
    expected: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class LoadedEvaluation:
    """One evaluation in the evidence.

    Attributes:
        name: Name of its folder.
        result: Scores, with those of attacks found later.
        verdict: The verdict on them.
        is_of_another_run: Whether it measured another erasure.
        pairs: Saved images.
        interference: Rows of ``interference.json``, the largest loss first.
    """

    name: str
    result: Result
    verdict: Verdict
    is_of_another_run: bool
    pairs: tuple[ImagePair, ...]
    interference: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class LoadedAttack:
    """One attack set in the evidence.

    Attributes:
        label: Label of the set: the attack and the settings that differ from its own.
        name: Name of the attack.
        seed: Root seed of the search.
        limit: Number of prompts that the search was limited to; None for all.
        config: Configuration of the attack.
        budget: Steps and seconds of its search.
        prompts: Rows of ``attack.json``.
        result: Scores; None if the attack was never scored.
    """

    label: str
    name: str
    seed: int
    limit: int | None
    config: Mapping[str, Any]
    budget: Mapping[str, Any]
    prompts: tuple[Mapping[str, Any], ...]
    result: Result | None


@dataclass(frozen=True)
class Evidence:
    """All data of the report.

    Attributes:
        erasure: The erasure.
        files: Size in bytes and SHA-256 of the artifact's files, by name.
        history: Losses by phase, one row per step.
        evaluations: Those without a caveat first, then the newest.
        attacks: Sorted by label.
        effect_pairs: Images of the effect check.
        texts: Answers of a language model before and after, by the folder that holds them; empty for image models.
    """

    erasure: Erasure
    files: Mapping[str, Mapping[str, Any]]
    history: Mapping[str, Sequence[Mapping[str, Any]]]
    evaluations: tuple[LoadedEvaluation, ...]
    attacks: tuple[LoadedAttack, ...]
    effect_pairs: tuple[ImagePair, ...] = ()
    texts: tuple[TextTable, ...] = ()
