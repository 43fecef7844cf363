"""The adapter of Janus-type models, compared with transformers' own generation."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_janus import SIDE, tiny_janus
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Edit, Erasure
from efface.core.spec import RunSpec
from efface.models.image_token_context import ImageTokenContext
from efface.models.image_token_sampling import sample_image_tokens
from efface.models.janus import JanusModel
from efface.ops.editing.apply import applied

PROMPTS = ["a photo of a gun in the snow", "a cat"]


@pytest.fixture(scope="module")
def model() -> JanusModel:
    return tiny_janus()


def stock_tokens(model: JanusModel, prompts: list[str], *, do_sample: bool) -> Tensor:
    rows = model.image_prompts(prompts)
    return model.module.generate(
        inputs=rows.ids, attention_mask=rows.mask, generation_mode="image", do_sample=do_sample, guidance_scale=3.0,
        top_k=0,
    )  # type: ignore[no-any-return]  # fmt: skip


def own_tokens(model: JanusModel, prompts: list[str], temperature: float = 1.0) -> Tensor:
    generators = [torch.Generator().manual_seed(7) for _ in prompts]
    return sample_image_tokens(model, prompts, generators, guidance_scale=3.0, temperature=temperature).tokens


def test_greedy_tokens_are_those_of_transformers(model: JanusModel) -> None:
    assert torch.equal(own_tokens(model, PROMPTS, 0.0), stock_tokens(model, PROMPTS, do_sample=False))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_sampled_tokens_are_those_of_transformers_from_the_same_seed(model: JanusModel, prompt: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        stock = stock_tokens(model, [prompt], do_sample=True)
    assert len(stock.unique()) > 3
    assert torch.equal(own_tokens(model, [prompt]), stock)


def test_the_decoded_image_is_that_of_transformers(model: JanusModel) -> None:
    tokens = own_tokens(model, PROMPTS)
    stock = model.module.decode_image_tokens(tokens).permute(0, 3, 1, 2)
    assert torch.allclose(model.decode(tokens), (stock / 2 + 0.5).clamp(0, 1))
    assert model.decode(tokens).shape == (2, 3, model.image_size, model.image_size)


def test_an_image_depends_on_its_own_seed_alone(model: JanusModel) -> None:
    together = model.sample(PROMPTS * 2, seeds=[1, 2, 3, 1], batch_size=4)
    alone = model.sample(PROMPTS[1:], seeds=[2])
    assert torch.allclose(together[1], alone[0], atol=1e-5)
    assert not torch.equal(together[0], together[2])


def test_the_cache_gives_the_states_of_one_long_pass(model: JanusModel) -> None:
    rows, tokens = model.image_prompts(PROMPTS), torch.arange(SIDE * SIDE).repeat(2, 1)
    whole, parts = ImageTokenContext(model, rows), ImageTokenContext(model, rows)
    whole.read_prompts()
    parts.read_prompts()
    pieces = torch.cat([parts.read(part) for part in tokens.split(5, dim=1)], dim=1)
    assert torch.allclose(whole.read(tokens), pieces, atol=1e-5)


def test_without_a_cache_a_token_is_read_by_itself(model: JanusModel) -> None:
    context = ImageTokenContext(model, model.image_prompts(PROMPTS), cached=False)
    states = context.read(torch.tensor([[3, 5], [5, 3]]))
    assert torch.allclose(states[0, 0], states[1, 1], atol=1e-6)


def test_a_negative_prompt_equal_to_the_unconditional_one_changes_nothing_and_another_one_does() -> None:
    model = tiny_janus()
    before = own_tokens(model, ["a gun"])
    for prompt, is_equal in (("<pad> <pad>", True), ("a cat", False)):
        edit = Edit("sampler", "guidance", params={"rule": "negative_prompt", "prompts": [prompt]})
        spec = RunSpec("tiny-janus", model.fingerprint(), "negative_prompt", {}, (Concept("gun"),), 0, "paper")
        with applied(model, Erasure(spec, (edit,), {})):
            assert torch.equal(own_tokens(model, ["a gun"]), before) is is_equal
    assert torch.equal(own_tokens(model, ["a gun"]), before)
