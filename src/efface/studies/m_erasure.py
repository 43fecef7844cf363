"""M-ErasureBench's five scenarios (WACV 2026, arXiv 2512.22877): how often each reproduces an erased concept.

1. ``text``: prompts that name the concept.
2. ``embeddings_white_box``: token embeddings learned on the erased model.
3. ``embeddings_black_box``: token embeddings learned on the unedited model.
4. ``latents_white_box``: images of the concept, inverted by the erased model without a prompt and sampled again.
5. ``latents_black_box``: the same, inverted by the unedited model.

The concept reproduction rate (CRR) is the share of images in which the benchmark's detector sees the concept. Each
scenario is an attack of efface, which saves its set, so that a second run takes up what is there.

Where we differ: read from the paper's abstract. With learned embeddings a prompt counts that shows the concept without
them, too. The rates of latents include what inversion brings back in any model; a control model states how much.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface import api
from efface.core.attack_set import AttackSet
from efface.core.errors import EffaceError
from efface.core.evaluation_evidence import RESULT
from efface.core.result import Result
from efface.core.score import Score
from efface.models.model_ref import ModelLike

if TYPE_CHECKING:
    from efface.ops.training.progress import Progress

CRR, TEXT = "crr", "text"
SCENARIOS = {
    "embeddings_white_box": ("concept_inversion", {"setting": "white_box"}),
    "embeddings_black_box": ("concept_inversion", {"setting": "black_box"}),
    "latents_white_box": ("inverted_latents", {"setting": "white_box", "prompt": "empty"}),
    "latents_black_box": ("inverted_latents", {"setting": "black_box", "prompt": "empty"}),
}
"""Attack and settings of each scenario but the first; the paper's latents have no prompt."""
_RATES = ("reproduction_rate", "asr_post")
"""Metrics that hold an attack's CRR; the first that its result has."""


def m_erasure(
    artifact: Path, benchmark: str | None = None, *, limit: int | None = None, control: Path | None = None,
    model: ModelLike | None = None, scenarios: tuple[str, ...] = (), progress: Progress | None = None,
) -> list[Score]:  # fmt: skip
    """Runs the scenarios on an erasure.

    Args:
        artifact: folder of the erasure.
        benchmark: benchmark by name or file; by default the one of the erasure's model and concept.
        limit: maximum number of prompts of a scenario.
        control: artifact that makes the base model one in which the concept never was, for the scenarios of latents.
        model: base model; by default the one the erasure was made for.
        scenarios: names of scenarios; all by default.
        progress: progress display.

    Returns:
        ``crr`` of every scenario; with a control also ``crr_control`` and the success above it, ``asr_post``.

    Raises:
        EffaceError: an unknown scenario, or an erasure of another kind of model.
    """
    if unknown := [name for name in scenarios if name not in (TEXT, *SCENARIOS)]:
        raise EffaceError(f"unknown scenario {unknown[0]!r}: choose from {', '.join((TEXT, *SCENARIOS))}")
    wanted = scenarios or (TEXT, *SCENARIOS)
    scores = list[Score]()
    settings: dict[str, Any] = {"limit": limit, "model": model, "progress": progress}
    if TEXT in wanted:
        plain = api.attack(artifact, "synonyms", benchmark, **settings)
        scores.append(_renamed(_score(plain, ("asr_pre",)), CRR, TEXT))
    for name, (attack, config) in SCENARIOS.items():
        if name in wanted:
            with_control = control if attack == "inverted_latents" else None
            found = api.attack(artifact, attack, benchmark, config=config, control=with_control, **settings)
            scores += _scenario_scores(found, name, with_control is not None)
    return scores


def _scenario_scores(found: AttackSet, scenario: str, has_control: bool) -> list[Score]:
    """Returns a scenario's CRR, and with a control its rate there and the success above it."""
    scores = [_renamed(_score(found, _RATES), CRR, scenario)]
    if has_control:
        scores.append(_renamed(_score(found, ("reproduction_rate_control",)), "crr_control", scenario))
        scores.append(_renamed(_score(found, ("asr_post",)), "asr_post", scenario))
    return scores


def _score(found: AttackSet, metrics: tuple[str, ...]) -> Score:
    """Returns the first of these metrics that a saved attack's result holds."""
    assert found.folder is not None  # `api.attack` saves it
    scores = {score.metric: score for score in Result.load(found.folder / RESULT).scores}
    for metric in metrics:
        if metric in scores:
            return scores[metric]
    raise EffaceError(f"{found.folder} holds no {metrics[0]}: remove the folder, and run the scenario again")


def _renamed(score: Score, metric: str, group: str) -> Score:
    return replace(score, metric=metric, group=group)
