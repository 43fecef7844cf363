"""The next step for an erasure: advice with a command that exists."""

from __future__ import annotations

import shlex
from typing import NamedTuple

from efface.core.attack_label import attack_of
from efface.core.evaluation_evidence import NOT_EVALUATED
from efface.core.result import Result
from efface.core.verdict import Verdict
from efface.core.verdict_rules import DEVIATIONS, LIMIT

from .plain_words import is_of_language

_ATTACKS = {"accuracy": "relearning_images", "free_accuracy": "paraphrase"}
"""The first attack to try on a classifier and on a language model, by a metric of their evaluations alone."""


class NextStep(NamedTuple):
    """Advice, and the command to type."""

    advice: str
    command: str

    def __str__(self) -> str:
        return f"{self.advice}: {self.command}"


def next_step(verdict: Verdict, result: Result, folder: str) -> NextStep:
    """The most useful next step: cure what failed, then measure what is undecided, then attack.

    Args:
        verdict: The verdict.
        result: The scores behind it.
        folder: Folder of the erasure, for the commands.
    """
    path = shlex.quote(folder)
    if verdict.erasure in ("not erased", "partly erased"):
        return NextStep("try another method, or more steps (--set steps=N)", "efface methods")
    if verdict.retention == "damaged":
        return NextStep("give more retain prompts (--retain-file FILE), or try another method", "efface methods")
    if verdict.attack.startswith("broken"):
        return _stronger_method(result)
    if other := next((caveat for caveat in verdict.caveats if caveat.endswith(NOT_EVALUATED)), ""):
        return _evaluate_concept(other.removesuffix(NOT_EVALUATED), result, path)
    if verdict.caveats:
        return NextStep("evaluate the whole test split of the erasure's own benchmark", f"efface evaluate {path}")
    if "inconclusive" in (verdict.erasure, verdict.retention):
        more = "ask more questions (in" if is_of_language(result) else "measure more images (seeds and templates in"
        return NextStep(f"{more} a benchmark file of your own)", f"efface evaluate {path} --benchmark FILE.yaml")
    if verdict.attack == "not attacked":
        return NextStep("attack it", f"efface attack {path} --attack {_first_attack(result)}")
    if verdict.attack == "inconclusive":
        return _complete_an_attack(result, path)
    return NextStep("write the report", f"efface report {path} --open")


def _evaluate_concept(concept: str, result: Result, path: str) -> NextStep:
    """The command that evaluates another concept of the erasure, or that writes a benchmark for it."""
    from efface.benchmarks.benchmark import find_benchmark

    model = str(result.metadata.get("model", ""))
    if benchmark := find_benchmark(model, concept):
        return NextStep(f"evaluate {concept}, too", f"efface evaluate {path} --benchmark {benchmark.name}")
    names = f"{shlex.quote(concept)} --model {shlex.quote(model)}"
    return NextStep(f"write a benchmark for {concept}", f"efface benchmarks new {names} --out benchmark.yaml")


def _complete_an_attack(result: Result, path: str) -> NextStep:
    """The command that runs the first partial attack with all prompts and its own settings."""
    for score in result.scores:
        if score.metric == "asr_post" and {LIMIT, DEVIATIONS} & set(score.provenance.extra):
            return NextStep("attack with all prompts", f"efface attack {path} --attack {attack_of(score.group)}")
    advice, command = _stronger_method(result)
    return NextStep(f"an ASR is too close to its threshold; {advice}", command)


def _first_attack(result: Result) -> str:
    """Returns the first attack to try, by the kind of model."""
    metrics = {score.metric for score in result.scores}
    return next((attack for metric, attack in _ATTACKS.items() if metric in metrics), "synonyms")


def _stronger_method(result: Result) -> NextStep:
    """Advises a method that withstands more attacks; for a classifier, retraining; for a language model, a filter."""
    if _first_attack(result) == _ATTACKS["accuracy"]:
        return NextStep("train it again without the concept", "efface erase CONCEPT --method retrain --out NEW")
    if is_of_language(result):
        return NextStep("try another method, or a filter in front of the model", "efface methods")
    return NextStep("try a method that trains against attacks", "efface erase CONCEPT --method sage --out NEW")
