"""The text encoders of Stable Diffusion 1, 2 and XL: encodings, given embeddings, gradients and roles."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import FAMILIES, POOLED, PROMPTS, WIDTH, WIDTH_2, state_bytes, tiny_of

from efface.core.attack_set import SoftPrompt
from efface.core.errors import EffaceError
from efface.models.soft_prompt import SoftTokens
from efface.ops.tensor_conversion import to_blob
from efface.ops.text.soft_prompts import embedding_table, nearest_words, to_soft_tokens


def test_encodings_equal_those_of_diffusers():
    model = tiny_of("sdxl")
    states, _, pooled, _ = model.pipe.encode_prompt(PROMPTS, device="cpu", do_classifier_free_guidance=True)
    cond = model.encode(PROMPTS)
    assert cond.states.shape == (2, 16, WIDTH + WIDTH_2)
    assert cond.pooled.shape == (2, POOLED)
    assert torch.equal(cond.states, states)
    assert torch.equal(cond.pooled, pooled)
    for family in ("sd1", "sd2"):
        model = tiny_of(family)
        assert torch.equal(model.encode(PROMPTS).states, model.pipe.encode_prompt(PROMPTS, "cpu", 1, False)[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_of_words_encode_like_the_words(family):
    model = tiny_of(family)
    table, ids = embedding_table(model), model.tokenize(["cat gun"]).ids[0, 1:3]
    assert table.shape[1] == sum(encoder.width for encoder in model.encoders)
    inserted = model.encode(["dog"], soft=table[ids][None])
    written = model.encode(["cat gun dog"])
    torch.testing.assert_close(inserted.states[:, :5], written.states[:, :5], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(inserted.pooled, written.pooled, rtol=1e-5, atol=1e-5)
    tokens = model.tokenize(["gun gun dog"])
    mask = torch.zeros_like(tokens.mask, dtype=torch.bool)
    mask[:, 1:3] = True
    embeddings = torch.zeros(1, 16, table.shape[1])
    embeddings[:, 1:3] = table[ids]
    replaced = model.encode(tokens, soft=SoftTokens(embeddings, mask))
    torch.testing.assert_close(replaced.states, written.states, rtol=1e-5, atol=1e-5)
    assert nearest_words(model, table[ids]) == "cat gun"
    other = tiny_of("sdxl" if family != "sdxl" else "sd1")
    with pytest.raises(EffaceError, match="has width"):
        to_soft_tokens(other, [SoftPrompt(to_blob(table[ids]), (1, 2))])


@pytest.mark.parametrize("family", FAMILIES)
def test_soft_embeddings_and_params_get_gradients_in_every_encoder(family):
    model = tiny_of(family)
    soft = embedding_table(model)[:2][None].clone().requires_grad_(True)
    group = model.parameter_group("text_all")
    student = {name: p.detach().clone().requires_grad_(True) for name, p in group.parameters.items()}
    before = state_bytes(model)
    cond = model.encode(PROMPTS, soft=soft, params=group.as_params(student))
    (cond.states.square().sum() + cond.pooled.square().sum()).backward()
    start = 0
    for encoder in model.encoders:
        assert float(soft.grad[..., start : start + encoder.width].abs().sum()) > 0
        start += encoder.width
    unread = [name for name, p in student.items() if p.grad is None]
    assert unread == [], "no role holds a parameter that the model never reads"
    assert state_bytes(model) == before


def test_params_replace_tensors_of_the_named_encoder_only():
    model = tiny_of("sdxl")
    base = model.encode(PROMPTS)
    for component, changed_columns, equal_columns in (
        ("text_encoder", slice(WIDTH), slice(WIDTH, None)),
        ("text_encoder_2", slice(WIDTH, None), slice(WIDTH)),
    ):
        group = model.parameter_group(f"{component}/text_mlp")
        assert group.components == (component,)
        changed = model.encode(PROMPTS, params=group.as_params({name: p * 2 for name, p in group.parameters.items()}))
        assert not torch.allclose(changed.states[..., changed_columns], base.states[..., changed_columns])
        assert torch.equal(changed.states[..., equal_columns], base.states[..., equal_columns])
        assert torch.equal(changed.pooled, base.pooled) == (component == "text_encoder")


def test_a_text_role_selects_in_both_encoders():
    model = tiny_of("sdxl")
    both = model.parameter_group("text_mlp")
    assert both.components == ("text_encoder", "text_encoder_2")
    assert len(both.parameters) == 4 * (2 - 1) + 4 * 3, "the model does not read the first encoder's last layer"
    assert len(model.parameter_group("text_mlp:last").parameters) == 4 + 4
    assert {name.split(".mlp")[0] for name in model.parameter_group("text_mlp:last").parameters} == {
        "encoder.layers.0",
        "text_encoder_2.encoder.layers.2",
    }
    mixed = model.parameter_group("text_encoder/text_mlp + text_encoder_2/text_attn:0")
    assert len(mixed.parameters) == 4 + 8
    assert "text_encoder_2.text_projection.weight" in model.parameter_group("text_all").parameters
    assert model.parameter_group("cross_kv").components == ("unet",)
    for role, message in (
        ("text_mlp:1", "layers 0 to 0"),
        ("text_encoder_3/text_mlp", "is in text_encoder and text_encoder_2, not in 'text_encoder_3'"),
        ("unet/text_mlp", "not in 'unet'"),
        ("text_encoder_2/text_mlp+cross_kv", "joins text encoder and denoiser"),
    ):
        with pytest.raises(EffaceError, match=message):
            model.parameter_group(role)
    with pytest.raises(EffaceError, match="is in text_encoder, not in"):
        tiny_of("sd1").parameter_group("text_encoder_2/text_mlp")
