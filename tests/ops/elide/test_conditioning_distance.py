"""Distances of conditionings, part by part."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.tiny import tiny_model
from helpers.tiny_flow import FLOW_PIPES, tiny_flow_of

from efface.ops.elide.conditioning_distance import ConditioningDistance
from efface.ops.text.similarity import Similarity


def test_stable_diffusions_one_part_is_the_distance_of_the_states() -> None:
    model = tiny_model()
    distance, similarity = ConditioningDistance(model), Similarity(model, "kv_distance")
    with torch.no_grad():
        a, b, empty = (model.encode([text]) for text in ("a gun x", "my dog", ""))
    compared = [similarity.compared_states(cond.states) for cond in (a, b)]
    torch.testing.assert_close(distance(a, b), [similarity.squared_distance(*compared)])
    torch.testing.assert_close(distance.from_empty(a), distance(empty, a))


@pytest.mark.parametrize("family", FLOW_PIPES)
def test_a_change_of_one_part_moves_its_distance_alone(family: str) -> None:
    model = tiny_flow_of(family)
    distance, offset = ConditioningDistance(model), model.tokenize([""]).state_offset
    with torch.no_grad():
        cond = model.encode(["a gun", "a cat"])
    clip, t5 = cond.states.clone(), cond.states.clone()
    clip[:, 1:offset] += 1
    t5[:, offset:] += 1
    changed = [replace(cond, states=t5), replace(cond, pooled=cond.pooled + 1)]
    changed = [replace(cond, states=clip), *changed] if family == "sd3" else changed
    moved = torch.stack([torch.stack(distance(other, cond)) for other in changed])
    assert torch.equal(moved > 0, torch.eye(len(changed), dtype=torch.bool)[..., None].expand_as(moved))
