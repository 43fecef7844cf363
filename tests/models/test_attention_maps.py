"""Recorded cross-attention maps."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model
from torch import Tensor

from efface.models.attention_maps import attention_maps
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.training.lora import LoraAdapter


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    return tiny_model(dtype=torch.float64)


def latents(count: int) -> Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_maps_are_the_layers_attention_and_change_nothing(model: StableDiffusionModel) -> None:
    z, cond = latents(2), model.encode(["a gun", "a cat"])
    layers = {name: module for name, module in model.unet.named_modules() if name.endswith("attn2")}
    calls: dict[str, tuple[Tensor, Tensor]] = {}
    handles = [
        layer.register_forward_hook(
            lambda _module, args, kwargs, output, name=name: calls.update({name: (args[0], output)}), with_kwargs=True
        )
        for name, layer in layers.items()
    ]
    prediction = model.predict(z, 300, cond).value
    with attention_maps(model) as maps:
        assert torch.equal(model.predict(z, 300, cond).value, prediction)
    for handle in handles:
        handle.remove()
    assert set(maps) == set(layers)
    for name, layer in layers.items():
        x, output = calls[name]
        q, k, v = (
            project(states).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
            for project, states in ((layer.to_q, x), (layer.to_k, cond.states), (layer.to_v, cond.states))
        )
        probabilities = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        torch.testing.assert_close(maps[name], probabilities, rtol=1e-12, atol=1e-14)
        attended = layer.to_out[0]((probabilities @ v).transpose(1, 2).flatten(2))
        torch.testing.assert_close(attended, output, rtol=1e-10, atol=1e-12)
        assert not layer.to_q._forward_hooks, "the hooks are removed"
        assert not layer.to_k._forward_hooks, "the hooks are removed"


def test_maps_follow_replaced_weights_and_have_gradients(model: StableDiffusionModel) -> None:
    adapter = LoraAdapter(model, "cross_kv", 2, torch.Generator().manual_seed(0))
    z, cond = latents(1), model.encode(["a gun"])
    with attention_maps(model) as maps:
        model.predict(z, 300, cond)
        original = {name: layer.detach() for name, layer in maps.items()}
        adapter.predict(z, 300, cond)
        assert all(torch.equal(maps[name].detach(), layer) for name, layer in original.items()), "B starts at zero"
        with torch.no_grad():
            for up in adapter.up_factors.values():
                up.fill_(0.5)
        adapter.predict(z, 300, cond)
        torch.stack([layer[..., 2].sum() for layer in maps.values()]).sum().backward()
    assert all(not torch.equal(maps[name].detach(), layer) for name, layer in original.items())
    assert any(float(down.grad.abs().max()) > 0 for down in adapter.down_factors.values() if down.grad is not None)
