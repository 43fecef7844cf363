"""Training data and loss that suppress a concept's cross-attention."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model
from torch import Tensor

from efface.models.protocol import Conditioning
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.attention.suppression import SuppressionBatch, SuppressionData, suppression_loss
from efface.ops.training.latents import Latents

PROMPTS = [("a gun", "gun"), ("my gun by x", "gun"), ("a dog", "dog")]


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    return tiny_model()


def data_of(model: StableDiffusionModel, word_indices: list[int]) -> SuppressionData:
    x0 = torch.randn(len(word_indices), 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return SuppressionData(Latents(model, x0, torch.tensor(word_indices)), ["gun", "dog", "cat"], PROMPTS)


def test_an_image_trains_on_the_prompts_with_its_word(model: StableDiffusionModel) -> None:
    data = data_of(model, [0, 1, 2])
    assert data.prompts_of == [[0, 1], [2], [0, 1, 2]], "all prompts for a word without prompts"


def test_concept_tokens_eos_and_padding_are_marked(model: StableDiffusionModel) -> None:
    data = data_of(model, [0])
    assert data.concept_mask[1].nonzero().flatten().tolist() == [3]
    eos = int(model.tokenize([PROMPTS[1][0]]).eos[0])
    assert data.token_mask[1].nonzero().flatten().tolist() == [3, *range(eos, 16)]


def test_every_mention_of_the_concept_is_marked(model: StableDiffusionModel) -> None:
    x0 = torch.zeros(1, 4, 8, 8)
    data = SuppressionData(
        Latents(model, x0, torch.tensor([0])), ["a cat"], [("a cat on a cat", "a cat"), ("cat a cat", "a cat")]
    )
    assert [row.nonzero().flatten().tolist() for row in data.concept_mask] == [[1, 2, 5, 6], [2, 3]]


def test_samples_combine_an_image_with_its_mask_and_its_prompt(model: StableDiffusionModel) -> None:
    data = data_of(model, [0, 1])
    data.masks = torch.stack([torch.zeros(8, 8), torch.ones(8, 8)])
    batch = data.sample(64, torch.Generator().manual_seed(1), None)
    is_dog = batch.masks[:, 0, 0] == 1
    assert 0 < int(is_dog.sum()) < 64
    assert torch.equal(batch.cond.states[is_dog], data.cond.states[2].expand(int(is_dog.sum()), -1, -1))
    assert {tuple(row) for row in batch.token_mask[~is_dog].tolist()} == {
        tuple(row) for row in data.token_mask[:2].tolist()
    }


def batch_of(masks: Tensor, token_mask: Tensor) -> SuppressionBatch:
    empty = torch.zeros(0)
    return SuppressionBatch(empty, empty, Conditioning(empty, empty), masks, token_mask)


def test_the_loss_is_the_norm_at_marked_tokens_within_the_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = torch.randn(2, 3, 16, 5, generator=generator, dtype=torch.float64).softmax(-1).requires_grad_()
    masks, token_mask = torch.zeros(2, 8, 8), torch.zeros(2, 5, dtype=torch.bool)
    masks[0, :4], token_mask[0, [1, 4]] = 1, True
    loss = suppression_loss([layer, layer], batch_of(masks, token_mask))
    expected = layer[0][:, :8][..., [1, 4]].norm()
    torch.testing.assert_close(loss, 2 * expected / 2)  # two layers, and the mean over two images
    loss.backward()
    assert layer.grad is not None
    assert bool(layer.grad.isfinite().all()), "an empty mask has gradient 0, not NaN"
