"""The next step for an erasure, as one sentence with a command that exists."""

from __future__ import annotations

import shlex

from efface.core.attack_label import attack_of
from efface.core.result import Result
from efface.core.verdict import Verdict
from efface.core.verdict_rules import DEVIATIONS, LIMIT


def next_step(verdict: Verdict, result: Result, folder: str) -> str:
    """The most useful next step: cure what failed, then measure what is undecided, then attack.

    Args:
        verdict: The verdict.
        result: The scores behind it.
        folder: Folder of the erasure, for the commands.
    """
    path = shlex.quote(folder)
    if verdict.erasure in ("not erased", "partly erased"):
        return "try another method, or more steps (--set steps=N): efface methods"
    if verdict.retention == "damaged":
        return "give more retain prompts (--retain-file FILE), or try another method: efface methods"
    if verdict.attack.startswith("broken"):
        return "try a method that trains against attacks: efface erase CONCEPT --method sage --out NEW"
    if verdict.caveats:
        return f"evaluate the whole test split of the erasure's own benchmark: efface evaluate {path}"
    if "inconclusive" in (verdict.erasure, verdict.retention):
        return "evaluate more images: raise `seeds` in the benchmark's file (docs/benchmarks.md)"
    if verdict.attack == "not attacked":
        return f"attack it: efface attack {path} --attack synonyms"
    if verdict.attack == "inconclusive":
        return _complete_an_attack(result, path)
    return f"write the report: efface report {path} --open"


def _complete_an_attack(result: Result, path: str) -> str:
    """The command that runs the first partial attack with all prompts and its own settings."""
    for score in result.scores:
        if score.metric == "asr_post" and {LIMIT, DEVIATIONS} & set(score.provenance.extra):
            return f"attack with all prompts: efface attack {path} --attack {attack_of(score.group)}"
    return f"attack with another seed: efface attack {path} --seed 1"
