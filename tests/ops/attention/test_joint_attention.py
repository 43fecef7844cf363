"""Attention columns of SD3 and FLUX beside the full softmax of the same queries and keys."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model
from helpers.tiny_flow import FLOW_PIPES, tiny_flow_of

from efface.core.errors import EffaceError
from efface.ops.attention.joint_attention import attention_norm, joint_attention, unit_column
from efface.ops.text.phrase_states import PhraseStates

PROMPTS, PHRASES = ["a photo of a gun", "a gun and a cat"], ["gun", "a cat"]


@pytest.mark.parametrize("family", FLOW_PIPES)
def test_columns_equal_those_of_the_full_softmax(family: str) -> None:
    model = tiny_flow_of(family)
    prompts, z = PhraseStates.encode(model, PROMPTS, PHRASES), model.initial_noise([1, 2])
    with torch.no_grad(), joint_attention(model) as attention:
        unhooked = model.predict(z, 500, prompts.cond).value
        columns = attention.columns(prompts.mask)
    assert attention.query is not None
    assert attention.key is not None
    full = (attention.query @ attention.key.mT / attention.query.shape[-1] ** 0.5).softmax(-1)
    num_text = prompts.mask.shape[1]
    text = full[..., :num_text] if model.text_tokens_first else full[..., -num_text:]
    assert full.shape[-1] == num_text + model.num_image_tokens
    for row in range(2):
        expected = text[row][..., prompts.mask[row]]
        assert torch.allclose(columns[row][..., : expected.shape[-1]], expected, atol=1e-6)
        assert not columns[row][..., expected.shape[-1] :].any()
    expected_norm = sum(text[row][..., prompts.mask[row]].norm(dim=0).sum() for row in range(2)) / 2
    assert torch.allclose(attention_norm(columns), torch.as_tensor(expected_norm))
    assert torch.allclose(unit_column(columns).norm(dim=1), torch.ones(2))
    with torch.no_grad():
        assert torch.equal(model.predict(z, 500, prompts.cond).value, unhooked)


def test_the_concepts_states_are_those_of_t5_and_of_sd3s_clip() -> None:
    flux, sd3 = (PhraseStates.encode(tiny_flow_of(family), PROMPTS, PHRASES).mask for family in FLOW_PIPES)
    assert flux[0].nonzero()[:, 0].tolist() == [4]
    assert flux[1].nonzero()[:, 0].tolist() == [3, 4]
    clip_length = sd3.shape[1] - flux.shape[1]
    assert torch.equal(sd3[:, clip_length:], flux)
    assert sd3[:, :clip_length].any(1).all(), "CLIP's tokens of the phrase"


def test_gradients_reach_the_text_tokens_keys() -> None:
    model = tiny_flow_of("flux")
    group = model.parameter_group("text_stream_qk")
    student = {name: p.clone().requires_grad_(True) for name, p in group.parameters.items()}
    prompts = PhraseStates.encode(model, PROMPTS, PHRASES)
    with joint_attention(model) as attention:
        model.predict(model.initial_noise([1, 2]), 500, prompts.cond, params=group.as_params(student))
        attention_norm(attention.columns(prompts.mask)).backward()
    assert all(p.grad is not None and p.grad.any() for name, p in student.items() if name.endswith("k_proj.weight"))


def test_a_model_without_joint_attention_is_refused() -> None:
    with pytest.raises(EffaceError, match="has no joint attention of text and image: choose an SD3 or FLUX model"):
        joint_attention(tiny_model()).__enter__()
