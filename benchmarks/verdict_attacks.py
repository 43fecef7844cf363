"""States how often the verdict's finding on attacks errs: ``python benchmarks/verdict_attacks.py``.

Each trial draws the hits of attacks whose true success rate is known, and asks for the verdict on an erasure that is
otherwise perfect. Below 0.2 "withstands" is right, above it "broken". An attack hits each prompt with a probability of
its own, drawn from a Beta distribution around the rate, as some prompts are easier than others; several images share
a prompt. One attack with the rate stands alone or beside three that never succeed. Writes verdict_attacks.json.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from efface.core.score import DetectorId, Provenance, Score
from efface.core.verdict import Verdict
from efface.core.verdict_rules import Thresholds
from efface.metrics.detections import Detection, EvalPrompt
from efface.metrics.rate_score import rate_score

RATES = (0.0, 0.05, 0.1, 0.15, 0.3, 0.4, 0.6, 1.0)
SIZES = (32, 48, 144)
IMAGES_PER_PROMPT = (1, 4)
NUM_ATTACKS = (1, 4)
SPREAD = 2.0
"""Sum of the Beta distribution's parameters: at 0.5 all probabilities are equally likely."""
JUDGE = DetectorId("judge", "1", 0.5)
PERFECT = tuple(
    Score(metric, group, value, max(0.0, value - 0.05), min(1.0, value + 0.05), 144)
    for metric, group, value in (
        ("rer", "name", 1.0), ("rer", "domain", 1.0), ("abstention_rate", "name", 0.0),
        ("abstention_rate", "domain", 0.0), ("retention", "context", 1.0), ("retention", "near", 1.0),
        ("retention", "other", 1.0),
    )
)  # fmt: skip
"""Scores of an erasure that is erased and kept."""


def hits_of(rate: float, size: int, images_per_prompt: int, rng: np.random.Generator) -> tuple[list[bool], list[str]]:
    """Returns the hits of one attack, and the prompt of each."""
    count = size // images_per_prompt
    beta = rng.beta(SPREAD * rate, SPREAD * (1 - rate), count) if 0 < rate < 1 else np.full(count, rate)
    hits = [bool(hit) for chance in beta for hit in rng.random(images_per_prompt) < chance]
    return hits, [f"prompt {i}" for i in range(count) for _ in range(images_per_prompt)]


def finding(rate: float, size: int, images_per_prompt: int, attacks: int, rng: np.random.Generator) -> str:
    """Returns the finding of one trial, without the name of the attack."""
    scores = list(PERFECT)
    for number in range(attacks):
        hits, prompts = hits_of(rate if number == 0 else 0.0, size, images_per_prompt, rng)
        name = f"attack_{number}"
        rows = [Detection(EvalPrompt(prompt, seed, name, {}), {}) for seed, prompt in enumerate(prompts)]
        scores.append(rate_score("asr_post", name, hits, rows, rng, JUDGE, Provenance()))
    return Verdict.of(scores).attack.split(" ")[0]


def measure(rate: float, size: int, images_per_prompt: int, attacks: int, trials: int) -> dict[str, Any]:
    """Returns the shares of right, inconclusive and wrong findings of one case."""
    rng = np.random.default_rng([int(100 * rate), size, images_per_prompt, attacks])
    found = [finding(rate, size, images_per_prompt, attacks, rng) for _ in range(trials)]
    right = "broken" if rate >= Thresholds().attack_success else "withstands"
    shares = {name: found.count(kind) / trials for name, kind in (("right", right), ("inconclusive", "inconclusive"))}
    case = {"rate": rate, "images": size, "images_per_prompt": images_per_prompt, "attacks": attacks}
    return {**case, **shares, "wrong": round(1 - sum(shares.values()), 6), "trials": trials}


def main(
    trials: Annotated[int, typer.Option(help="Number of trials of each case.")] = 200,
    out: Annotated[Path, typer.Option(help="JSON file to write.")] = Path(__file__).parent / "verdict_attacks.json",
) -> None:
    """Runs all cases."""
    cases = product(SIZES, IMAGES_PER_PROMPT, NUM_ATTACKS, RATES)
    rows = [measure(rate, size, each, attacks, trials) for size, each, attacks, rate in cases]
    out.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    for size, attacks in product(SIZES, NUM_ATTACKS):
        kept = [row for row in rows if (row["images"], row["attacks"]) == (size, attacks)]
        shares = {name: round(sum(row[name] for row in kept) / len(kept), 4) for name in ("inconclusive", "wrong")}
        print({"images": size, "attacks": attacks, **shares, "most wrong": max(row["wrong"] for row in kept)})


if __name__ == "__main__":
    typer.run(main)
