"""The evaluations in an erasure's evidence; attacks found after an evaluation count in its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import CorruptArtifactError, EffaceError
from .manifest import EVIDENCE
from .result import OTHER_CONCEPTS, Result
from .score import Score
from .spec import RunSpec
from .temporary_files import complete_files
from .text_fields import fold_case
from .verdict import Verdict
from .verdict_rules import DEVIATIONS, reaches

NOT_EVALUATED = ": not evaluated"
"""End of the caveat on a concept that no evaluation measures."""
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
        other_concepts: one line for every other concept of the erasure that is not erased, or that no evaluation
            measures; None if the erasure has one concept.
    """

    name: str
    result: Result
    is_of_another_run: bool = False
    other_concepts: tuple[str, ...] | None = None

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict on the scores; scores of another run and findings on other concepts are caveats."""
        own = self.result
        if self.other_concepts is not None:  # it replaces what the result says of them
            own = replace(own, metadata={**own.metadata, OTHER_CONCEPTS: None})
        caveats = [*own.verdict.caveats, *(self.other_concepts or ())]
        caveats += ["measured on another run than this erasure"] if self.is_of_another_run else []
        concept = "" if self.other_concepts is None else ", ".join(concepts_of(own))
        return replace(own.verdict, caveats=tuple(caveats), concept=concept)

    @property
    def concept(self) -> str:
        """Name of the concept that the benchmark measures; empty if the result does not state it."""
        return concept_of(self.result)


def read_evaluations(artifact: Path, spec: RunSpec) -> list[EvaluationEvidence]:
    """Reads all evaluations; those without a caveat come first, then the newest.

    Of an erasure of several concepts, each verdict states what the other concepts lack.

    Args:
        artifact: folder of the erasure.
        spec: the erasure's run.

    Raises:
        CorruptArtifactError: a result that cannot be read.
    """
    attacks = attack_results_of(artifact, spec.hash)
    evaluations = []
    for path in complete_files(artifact / EVIDENCE, RESULT):
        result = read_result(path)
        of_another_run = not is_of_run(result, spec.hash)
        merged = result if of_another_run else with_attacks(result, attacks)
        evaluations.append(EvaluationEvidence(path.parent.name, merged, of_another_run))
    evaluations.sort(key=lambda evaluation: str(evaluation.result.metadata.get("created", "")), reverse=True)
    evaluations = add_other_concepts(evaluations, [concept.name for concept in spec.concepts])
    return sorted(evaluations, key=lambda evaluation: (evaluation.is_of_another_run, bool(evaluation.verdict.caveats)))


def add_other_concepts(evaluations: Sequence[EvaluationEvidence], erased: Sequence[str]) -> list[EvaluationEvidence]:
    """States in each evaluation what the erasure's other concepts lack to pass.

    Args:
        evaluations: all evaluations; the first of a concept, without a caveat if there is one, stands for it.
        erased: names of the erased concepts; with one, the evaluations are returned unchanged.
    """
    if len(erased) < 2:
        return list(evaluations)
    alone = [replace(evaluation, other_concepts=()) for evaluation in evaluations]
    ranked = sorted(alone, key=lambda evaluation: bool(evaluation.verdict.caveats))
    by_concept: dict[str, EvaluationEvidence] = {}
    for evaluation in ranked:
        for concept in () if evaluation.is_of_another_run else concepts_of(evaluation.result):
            by_concept.setdefault(fold_case(concept), evaluation)
    marked = []
    for evaluation in alone:
        own = {fold_case(concept) for concept in concepts_of(evaluation.result)}
        others = [concept for concept in erased if fold_case(concept) not in own]
        texts = (_what_lacks(evaluation, concept, by_concept.get(fold_case(concept))) for concept in others)
        marked.append(replace(evaluation, other_concepts=tuple(text for text in texts if text)))
    return marked


def _what_lacks(evaluation: EvaluationEvidence, concept: str, other: EvaluationEvidence | None) -> str:
    """Says what another concept lacks to pass, apart from what the evaluation lacks too; empty if nothing."""
    if other is None:
        return concept + NOT_EVALUATED
    own, passing = evaluation.verdict.parts, {"erasure": "erased", "retention": "kept", "attacks": "withstands"}
    lacks = [word for part, word in other.verdict.parts.items() if word not in (passing[part], own[part])]
    return f"{concept}: {', '.join([*lacks, *other.verdict.caveats])}" if lacks or other.verdict.caveats else ""


def read_attack_results(artifact: Path) -> dict[str, Result]:
    """Reads the scores of all attack sets, by label."""
    paths = complete_files(artifact / EVIDENCE / ATTACKS, RESULT)
    return {path.parent.name: read_result(path) for path in paths}


def attack_results_of(artifact: Path, run_hash: str) -> dict[str, Result]:
    """Returns the scores of the attack sets on the erasure of that run, as the attacks saved them, by label."""
    return {label: result for label, result in read_attack_results(artifact).items() if is_of_run(result, run_hash)}


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
    return str(_benchmark(result).get("concept", ""))


def concepts_of(result: Result) -> list[str]:
    """Returns the names of all concepts that a result measures together."""
    joint = _benchmark(result).get("joint_concepts")
    own = concept_of(result)
    return [*([own] if own else []), *(map(str, joint) if isinstance(joint, list | tuple) else [])]


def _benchmark(result: Result) -> Mapping[str, Any]:
    """Returns what a result's metadata state of its benchmark."""
    benchmark = result.metadata.get("benchmark")
    return benchmark if isinstance(benchmark, Mapping) else {}


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
            scores |= {(score.metric, score.group): _marked(score, attack, result) for score in attack.scores}
    return replace(result, scores=tuple(scores.values()))


def _strength(score: Score, result: Result) -> tuple[bool, int]:
    limits = result.thresholds
    return reaches(score, limits.attack_success, limits.min_images) == "yes", score.n


def _marked(score: Score, attack: Result, result: Result) -> Score:
    """Marks a score of another detector or benchmark than the evaluation's; such a score proves no resistance."""
    judge = next((item.detector for item in result.scores if (item.metric, item.group) == ("rer", "name")), None)
    deviations = []
    if judge is not None and score.detector is not None and score.detector != judge:
        deviations.append(f"judged by {score.detector.id}")
    if _benchmark(attack).get("prompts_hash") != _benchmark(result).get("prompts_hash"):
        deviations.append(f"on another benchmark ({_benchmark(attack).get('name')})")
    if not deviations:
        return score
    extra: dict[str, Any] = dict(score.provenance.extra)
    extra[DEVIATIONS] = [*extra.get(DEVIATIONS, []), *deviations]
    return replace(score, provenance=replace(score.provenance, extra=extra))
