"""Parameters of FLUX and SD3 by role, and their gradients."""

from __future__ import annotations

import pytest
from helpers.tiny import state_bytes
from helpers.tiny_flow import FAMILIES, PROMPTS, tiny_flow_of

from efface.core.errors import EffaceError

ROLES = {
    "text_stream": (16, 14),
    "text_stream_kv": (8, 8),
    "attn_all": (44, 38),
    "reads_text": (1, 1),
    "reads_pooled": (1, 1),
    "text_mlp": (14, 26),
}
"""Number of tensors of a role in the tiny FLUX and in the tiny SD3."""


@pytest.mark.parametrize("family", FAMILIES)
def test_roles_select_the_models_own_parameters(family):
    model = tiny_flow_of(family)
    counts = {}
    for role in (*ROLES, "adaln", "transformer_linear", "transformer_all", "text_attn", "text_all", "token_embedding"):
        group = model.parameter_group(role)
        owners = [dict(model.components[component].named_parameters()) for component in group.components]
        assert all(any(p is q for owner in owners for q in owner.values()) for p in group.parameters.values())
        counts[role] = len(group.parameters)
    assert {role: counts[role] for role in ROLES} == {role: n[family == "sd3"] for role, n in ROLES.items()}
    assert counts["attn_all"] < counts["transformer_linear"] < counts["transformer_all"]
    assert all("norm" in name for name in model.parameter_group("adaln").parameters)
    assert len(model.parameter_group(f"{model.t5.component}/text_attn:last").parameters) == 4
    with pytest.raises(EffaceError, match="'cross_all' is not in a transformer"):
        model.parameter_group("cross_all")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("role", ["text_stream", "text_all"])
def test_every_trained_parameter_gets_a_gradient(family, role):
    model = tiny_flow_of(family)
    group = model.parameter_group(role)
    student = {name: p.detach().clone().requires_grad_(True) for name, p in group.parameters.items()}
    params, before = group.as_params(student), state_bytes(model)
    cond = model.encode(PROMPTS, params=params if role == "text_all" else None)
    predicted = model.predict(model.initial_noise([1, 2]), 500, cond, params=None if role == "text_all" else params)
    predicted.value.square().sum().backward()
    unread = [name for name, p in student.items() if p.grad is None]
    assert unread == []
    assert state_bytes(model) == before
