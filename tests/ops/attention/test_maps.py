"""Attention that is recorded, masks made of it, and the timesteps at which a concept takes shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import tiny_model
from PIL import Image
from torch import Tensor

from efface.core.errors import EffaceError
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.attention.concept_masks import attention_masks, check_fits, read_masks
from efface.ops.attention.maps import attention_maps
from efface.ops.training.latents import Latents
from efface.ops.training.lora import LoraAdapter
from efface.ops.training.schedule import concept_timestep_density


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    """Layer norms with values of their own: with zero biases every Gram would be singular."""
    made = tiny_model(dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.text_encoder.named_parameters():
        if "final_layer_norm" in name:
            parameter.data.copy_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("timesteps", [1000, 500, 100])
def test_timesteps_at_which_a_concept_takes_shape(timesteps: int) -> None:
    density = concept_timestep_density(timesteps)
    t = torch.arange(timesteps, dtype=torch.float64) * 1000 / timesteps
    expected = 1 / (1 + torch.exp(-0.05 * (t - 200))) - 1 / (1 + torch.exp(-0.05 * (t - 400)))
    torch.testing.assert_close(density, expected / expected.sum(), rtol=1e-9, atol=1e-15)
    assert float(density[(t >= 200) & (t <= 400)].sum()) > 0.85
    assert abs(float((density * t).sum()) - 300) < 6
    with pytest.raises(EffaceError, match="the second must be above the first"):
        concept_timestep_density(timesteps, low=400, high=200)


def test_latents_are_noised_at_timesteps_of_a_density(model: StableDiffusionModel) -> None:
    latents = Latents(model, drawn(3, 4, 8, 8), torch.arange(3))
    only = torch.zeros(1000)
    only[[250, 333]] = 1
    _, t, _, _ = latents.add_noise(64, torch.Generator().manual_seed(0), only)
    assert set(t.tolist()) == {250, 333}


def test_recorded_attention_is_that_of_the_layers_and_hooks_are_gone(model: StableDiffusionModel) -> None:
    unet, z, cond = model.unet, drawn(2, 4, 8, 8), model.encode(["a gun", "a cat"])
    layers = {n: m for n, m in unet.named_modules() if n.endswith("attn2")}
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = [
        m.register_forward_hook(lambda _m, args, kwargs, out, n=n: seen.update({n: (args[0], out)}), with_kwargs=True)
        for n, m in layers.items()
    ]
    plain = model.predict(z, 300, cond).value
    with attention_maps(model) as maps:
        assert torch.equal(model.predict(z, 300, cond).value, plain)
    for handle in handles:
        handle.remove()
    assert set(maps) == set(layers)
    for name, layer in layers.items():
        x, out = seen[name]
        q, k, v = (f(s).unflatten(-1, (layer.heads, -1)).transpose(1, 2) for f, s in zip(
            (layer.to_q, layer.to_k, layer.to_v), (x, cond.states, cond.states), strict=True))  # fmt: skip
        by_hand = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        torch.testing.assert_close(maps[name], by_hand, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(
            layer.to_out[0]((by_hand @ v).transpose(1, 2).flatten(2)), out, rtol=1e-10, atol=1e-12
        )
        assert not layer.to_q._forward_hooks
        assert not layer.to_k._forward_hooks


def test_attention_maps_see_tensors_that_stand_in(model: StableDiffusionModel) -> None:
    adapter = LoraAdapter(model, "cross_kv", 2, torch.Generator().manual_seed(0))
    z, cond = drawn(1, 4, 8, 8), model.encode(["a gun"])
    with attention_maps(model) as maps:
        model.predict(z, 300, cond)
        before = {n: m.detach() for n, m in maps.items()}
        adapter.predict(z, 300, cond)
        assert all(torch.equal(maps[n].detach(), m) for n, m in before.items()), "B begins at zero"
        with torch.no_grad():
            for up in adapter.ups.values():
                up.fill_(0.5)
        adapter.predict(z, 300, cond)
        sum(m[..., 2].sum() for m in maps.values()).backward()  # type: ignore[union-attr]
    assert all(not torch.equal(maps[n].detach(), m) for n, m in before.items())
    assert any(float(down.grad.abs().max()) > 0 for down in adapter.downs.values() if down.grad is not None)


def test_masks(model: StableDiffusionModel, tmp_path: Path) -> None:
    half = torch.zeros(1, 8, 8)
    half[:, :, 4:] = 1
    assert check_fits(half, 16).view(4, 4).tolist() == [[False, False, True, True]] * 4
    clean, cond = drawn(3, 4, 8, 8), model.encode(["a gun"] * 3)
    tokens = torch.zeros(3, 16, dtype=torch.bool)
    tokens[:, 2] = True
    made = attention_masks(model, clean, cond, tokens, torch.Generator().manual_seed(0), threshold=0.999)
    assert made.shape == (3, 8, 8)
    assert bool((made.flatten(1).sum(1) >= 1).all())
    assert float(made.mean()) < 0.5
    for i in range(2):
        Image.new("L", (4, 4), 255 * i).save(tmp_path / f"{i}.png")
    assert read_masks(tmp_path, 2).mean((1, 2)).tolist() == [0, 1]
    with pytest.raises(EffaceError, match="2 masks for 3 images"):
        read_masks(tmp_path, 3)
