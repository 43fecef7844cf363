"""Diagnostics of a closed-form solution against their definitions."""

from __future__ import annotations

import pytest
import torch

from efface.core.concept import Concept
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import (
    EmbeddingCache,
    PreservedStates,
    Problem,
    build_pairs,
    concept_prompts,
    diagnose,
)

CONCEPT = Concept("gun", retain_prompts=("a cat", "a dog"))


def build_problem(model: StableDiffusionModel, ridge: float = 0.5) -> Problem:
    cache = EmbeddingCache.for_model(model)
    pairs = build_pairs(cache, concept_prompts(CONCEPT, 0), "tail")
    return Problem(
        pairs, PreservedStates.from_texts(cache, CONCEPT.retain_prompts, all_tokens=True).preserve(0.7), ridge
    )


def test_diagnostics_measure_the_solution(model: StableDiffusionModel) -> None:
    p, weights = build_problem(model, 1e-9), model.parameter_group("cross_kv").parameters
    tight = diagnose(p, p.solve(), weights)
    loose = build_problem(model, 1e3)
    slack_solution = loose.solve()
    slack = diagnose(loose, slack_solution, weights)
    assert tight.residual < 0.5 < slack.residual <= 1
    assert tight.condition_number > slack.condition_number
    exact = torch.linalg.eigvalsh(
        p.pairs.source @ p.pairs.source.T + p.preserve.second_moment(p.width) + p.ridge * torch.eye(p.width)
    )
    assert 0.2 < tight.condition_number / float(exact[-1] / exact[0]) < 2
    e = slack_solution.dense()
    states = torch.cat([model.encode([text]).states[0] for text in CONCEPT.retain_prompts]).T
    assert slack.preserved_change == pytest.approx(float((e @ states).norm() / states.norm()), rel=1e-9)
