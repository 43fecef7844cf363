from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownNameError
from efface.models.protocol import Conditioning
from efface.ops.retention.relation_graph import RelationGraphLoss, RetainSet, top_k_drift
from efface.ops.text.concept_prompts import ConceptPrompts, TrajectoryConfig
from efface.ops.training.student import Student

PROMPTS = ["a cat", "a dog", "x", ""]


def test_the_cross_graph_sees_a_rotation_and_the_self_graph_does_not() -> None:
    original = tiny_model().encode(PROMPTS)
    rotation, _ = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0)))
    turned = Conditioning(original.states @ rotation, original.pooled)
    assert float(RelationGraphLoss(original, "self")(turned)) < 1e-9
    assert float(RelationGraphLoss(original, "cross")(turned)) > 1e-2
    for form in ("self", "cross"):
        assert float(RelationGraphLoss(original, form)(original)) < 1e-12


def test_most_drifted_and_what_always_belongs() -> None:
    original = tiny_model().encode(PROMPTS)
    states = original.states.clone()
    states[1] = -states[1]
    states[2, 3] = -states[2, 3]
    student = Conditioning(states, original.pooled)
    assert top_k_drift(student, original, 2).tolist() == [1, 2]
    assert top_k_drift(student, original, 1, always=[3]).tolist() == [1, 3]


def test_retained_prompts_have_no_drift_at_first() -> None:
    model = tiny_model()
    retained = RetainSet.of(
        model, [Concept("gun", retain_prompts=("a cat", "a dog"))], TrajectoryConfig(1, 2), empty=True, seed=0
    )
    assert retained.empty == (2,)
    student = Student(model, "text_all")
    with torch.no_grad():
        now = student.encode(retained.tokens)
        drift = retained.prediction_loss(student, now, torch.tensor([0, 2]), torch.Generator().manual_seed(0))
    assert float(drift) < 1e-10


def test_targets_of_sentences() -> None:
    model = tiny_model()
    about = ConceptPrompts.of(model, ["gun"], ["a {} x", "my {}"], TrajectoryConfig(1, 3), seed=0)
    batch = about.pool.sample_each([0, 1, 1], torch.Generator().manual_seed(0))
    assert batch.prompt.tolist() == [0, 1, 1]
    e_0, e_p = batch.unconditional, batch.conditional
    with torch.no_grad():
        e_c = model.predict(batch.z, batch.t, model.encode(["gun"] * 3)).value
    for form, wanted in {
        "concept": e_0 - 2 * (e_c - e_0),
        "prompt": e_0 - 2 * (e_p - e_0),
        "rest": e_p - 3 * (e_c - e_0),
    }.items():
        torch.testing.assert_close(about.target(model, batch, None, form, 2.0), wanted, atol=1e-5, rtol=1e-5)


def test_errors() -> None:
    model = tiny_model()
    with pytest.raises(UnknownNameError, match="graph form"):
        RelationGraphLoss(model.encode(PROMPTS), "crossed")
    with pytest.raises(EffaceError, match="at least 2"):
        RelationGraphLoss(model.encode(["x"]))
    with pytest.raises(EffaceError, match="nothing to retain"):
        RetainSet.of(model, [Concept("gun")], TrajectoryConfig(1, 2), empty=False, seed=0)
    with pytest.raises(EffaceError, match="no sentence"):
        ConceptPrompts.of(model, ["gun"], [], TrajectoryConfig(1, 2), seed=0)
