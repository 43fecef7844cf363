"""The evaluations in an erasure's evidence; attacks found after an evaluation count in its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import CorruptArtifactError, EffaceError
from .manifest import EVIDENCE
from .result import Result
from .score import Score
from .verdict import Verdict
from .verdict_rules import DEVIATIONS, reaches

ATTACKS = "attacks"
"""Subfolder of the evidence that holds the attack sets."""
RESULT = "result.json"


@dataclass(frozen=True)
class EvaluationEvidence:
    """One evaluation with every attack on the same concept.

    Attributes:
        name: name of its folder.
        result: its scores and those of the attacks.
        is_of_another_run: whether it measured another erasure than the one in the folder.
    """

    name: str
    result: Result
    is_of_another_run: bool = False

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict on the scores; scores of another run are a caveat."""
        verdict = self.result.verdict
        if not self.is_of_another_run:
            return verdict
        return replace(verdict, caveats=(*verdict.caveats, "measured on another run than this erasure"))

    @property
    def concept(self) -> str:
        """Name of the concept that the benchmark measures; empty if the result does not state it."""
        return concept_of(self.result)


def read_evaluations(artifact: Path, run_hash: str) -> list[EvaluationEvidence]:
    """Reads all evaluations; those without a caveat come first, then the newest.

    Args:
        artifact: folder of the erasure.
        run_hash: hash of the erasure's run.

    Raises:
        CorruptArtifactError: a result that cannot be read.
    """
    attacks = {label: result for label, result in read_attack_results(artifact).items() if is_of_run(result, run_hash)}
    evaluations = []
    for path in sorted((artifact / EVIDENCE).glob(f"*/{RESULT}")):
        result = read_result(path)
        of_another_run = not is_of_run(result, run_hash)
        merged = result if of_another_run else with_attacks(result, attacks)
        evaluations.append(EvaluationEvidence(path.parent.name, merged, of_another_run))
    evaluations.sort(key=lambda evaluation: str(evaluation.result.metadata.get("created", "")), reverse=True)
    return sorted(evaluations, key=lambda evaluation: (evaluation.is_of_another_run, bool(evaluation.verdict.caveats)))


def read_attack_results(artifact: Path) -> dict[str, Result]:
    """Reads the scores of all attack sets, by label."""
    paths = sorted((artifact / EVIDENCE / ATTACKS).glob(f"*/{RESULT}"))
    return {path.parent.name: read_result(path) for path in paths}


def read_result(path: Path) -> Result:
    """Reads a result; raises `CorruptArtifactError` with the file's name if it cannot be read."""
    try:
        result = Result.load(path)
        _ = result.verdict  # computed now, because a threshold in the file may not be a number
    except (EffaceError, TypeError) as error:
        text = str(error)
        prefix = "" if str(path) in text else f"{path}: "
        raise CorruptArtifactError(f"{prefix}{text}; evaluate again, or remove the folder") from error
    return result


def is_of_run(result: Result, run_hash: str) -> bool:
    """Returns whether a result states that it measured the erasure of that run."""
    return result.metadata.get("erasure_hash") == run_hash


def concept_of(result: Result) -> str:
    """Returns the name of the concept that a result measures; empty if it does not state it."""
    benchmark = result.metadata.get("benchmark")
    return str(benchmark.get("concept", "")) if isinstance(benchmark, Mapping) else ""


def with_attacks(result: Result, attacks: Mapping[str, Result]) -> Result:
    """Adds the scores of attacks on the same concept to an evaluation.

    Where both scored an attack set, the scores that break the erasure stay, else those of more images.
    """
    scores = {(score.metric, score.group): score for score in result.scores}
    for label, attack in attacks.items():
        own, found = scores.get(("asr_post", label)), attack.score("asr_post", label)
        if found is None or concept_of(attack) != concept_of(result):
            continue
        if own is None or _strength(found, result) > _strength(own, result):
            scores |= {(score.metric, score.group): _marked(score, result) for score in attack.scores}
    return replace(result, scores=tuple(scores.values()))


def _strength(score: Score, result: Result) -> tuple[bool, int]:
    limits = result.thresholds
    return reaches(score, limits.attack_success, limits.min_images) == "yes", score.n


def _marked(score: Score, result: Result) -> Score:
    """Marks a score that another detector than the evaluation's judged; such a score proves no resistance."""
    judge = next((item.detector for item in result.scores if (item.metric, item.group) == ("rer", "name")), None)
    if judge is None or score.detector is None or score.detector == judge:
        return score
    extra: dict[str, Any] = dict(score.provenance.extra)
    extra[DEVIATIONS] = [*extra.get(DEVIATIONS, []), f"judged by {score.detector.id}"]
    return replace(score, provenance=replace(score.provenance, extra=extra))
