"""Relation graph of retain prompts."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model
from torch.nn.functional import normalize

from efface.core.errors import EffaceError, UnknownNameError
from efface.models.protocol import Conditioning
from efface.ops.retention.relation_graph import GRAPH_REFERENCES, RelationGraphLoss

PROMPTS = ["a cat", "a dog", "x", ""]


def test_only_the_cross_reference_detects_a_rotation() -> None:
    original = tiny_model().encode(PROMPTS)
    rotation, _ = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0)))
    rotated = Conditioning(original.states @ rotation, original.pooled)
    assert float(RelationGraphLoss(original, "self")(rotated)) < 1e-9
    assert float(RelationGraphLoss(original, "cross")(rotated)) > 1e-2


@pytest.mark.parametrize("reference", GRAPH_REFERENCES)
def test_loss_is_the_mean_squared_difference_of_cosines(reference: str) -> None:
    original, student = tiny_model().encode(PROMPTS), tiny_model(seed=2).encode(PROMPTS)
    loss = RelationGraphLoss(original, reference)
    assert float(loss(original)) < 1e-12
    r, r_original = (normalize(cond.states[:, 1:].flatten(1), dim=-1) for cond in (student, original))
    relations = r @ (r if reference == "self" else r_original).T
    torch.testing.assert_close(loss(student), (relations - r_original @ r_original.T).square().mean())


def test_unknown_references_and_single_prompts_are_errors() -> None:
    model = tiny_model()
    with pytest.raises(UnknownNameError, match="graph reference"):
        RelationGraphLoss(model.encode(PROMPTS), "crossed")
    with pytest.raises(EffaceError, match="at least 2"):
        RelationGraphLoss(model.encode(["x"]))
