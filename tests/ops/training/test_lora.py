"""LoRA on edited weights."""

from __future__ import annotations

import torch
from helpers.tiny import tiny_model

from efface.ops.training.lora import LoraAdapter


def test_a_lora_adds_to_edited_weights() -> None:
    model = tiny_model(dtype=torch.float64)
    edited_group, group = model.parameter_group("cross_kv"), model.parameter_group("attn_all")
    edited = {edited_group.paths[name]: 2 * weight for name, weight in edited_group.parameters.items()}
    adapter = LoraAdapter(model, "attn_all", 3, torch.Generator().manual_seed(0), edited)
    z, cond = torch.randn(1, 4, 8, 8, dtype=torch.float64), model.encode(["a gun"])
    untrained, expected = adapter.predict(z, 5, cond).value, model.predict(z, 5, cond, params=edited).value
    assert torch.equal(untrained, expected), "B starts at zero"
    with torch.no_grad():
        for up in adapter.up_factors.values():
            up.fill_(0.1)
    params = adapter.params()
    for name, (up, down) in adapter.factors().items():
        base = group.parameters[name] * (2 if name in edited_group.parameters else 1)
        torch.testing.assert_close(params[group.paths[name]].detach(), base + up @ down, rtol=1e-6, atol=1e-6)
    assert not any(name.endswith("bias") for name in params)
