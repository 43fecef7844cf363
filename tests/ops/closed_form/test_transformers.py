"""The closed form is exact beyond UNets: for the layer of SD3, FLUX and PixArt that reads the text states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, PixArtTransformer2DModel, SD3Transformer2DModel
from torch import Tensor, nn

from efface.core.errors import EffaceError
from efface.models.parameter_groups import select_parameters
from efface.ops.closed_form import Pairs, Preserve, Problem

SMALL: dict[str, Any] = {"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2, "in_channels": 4}
JOINT: dict[str, Any] = {"joint_attention_dim": 32, "pooled_projection_dim": 16}


def sd3() -> nn.Module:
    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, out_channels=4, caption_projection_dim=16, **JOINT, **SMALL
    )


def flux() -> nn.Module:
    return FluxTransformer2DModel(patch_size=1, num_single_layers=1, axes_dims_rope=(2, 2, 4), **JOINT, **SMALL)


def pixart() -> nn.Module:
    return PixArtTransformer2DModel(out_channels=8, cross_attention_dim=16, caption_channels=32, sample_size=8, **SMALL)


def predict(model: nn.Module, states: Tensor) -> Tensor:
    g, t = torch.Generator().manual_seed(1), torch.tensor([5.0], dtype=torch.float64)
    pooled = torch.randn(1, 16, generator=g, dtype=torch.float64)
    if isinstance(model, FluxTransformer2DModel):
        z, ids = torch.randn(1, 16, 4, generator=g, dtype=torch.float64), torch.zeros(16, 3)
        return model(z, states, pooled, t, ids, torch.zeros(states.shape[1], 3)).sample
    z = torch.randn(1, 4, 8, 8, generator=g, dtype=torch.float64)
    if isinstance(model, PixArtTransformer2DModel):
        return model(z, states, t, added_cond_kwargs={"resolution": None, "aspect_ratio": None}).sample
    return model(z, states, pooled, t).sample


@pytest.mark.parametrize("build", [sd3, flux, pixart])
def test_the_edited_layer_equals_a_filter_of_the_states(build: Any) -> None:
    torch.manual_seed(0)
    model = build().double().eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    states = torch.randn(1, 6, 32, dtype=torch.float64)
    k, a, r = (torch.randn(32, n, dtype=torch.float64) for n in (3, 3, 5))
    edit = Problem(Pairs(k, a, torch.ones(3)), Preserve(r), 0.1).solve()
    group = select_parameters({"transformer": model}, "reads_text")
    assert (group.component, len(group.parameters)) == ("transformer", 1)
    (weight,) = group.parameters.values()
    with torch.no_grad():
        original, filtered = predict(model, states), predict(model, edit(states))
        weight += edit.lora_up(weight) @ edit.right
        edited = predict(model, states)
    assert float((edited - original).abs().max()) > 1e-4
    torch.testing.assert_close(edited, filtered, rtol=0, atol=1e-12)


def test_roles_of_transformers() -> None:
    components = {"transformer": flux()}
    assert list(select_parameters(components, "reads_pooled").parameters) == [
        "time_text_embed.text_embedder.linear_1.weight"
    ]
    with pytest.raises(EffaceError, match="'cross_kv' is not in a transformer, which has reads_text,"):
        select_parameters(components, "cross_kv")
    with pytest.raises(EffaceError, match="selects nothing in this model's transformer"):
        select_parameters({"transformer": pixart()}, "reads_pooled")
