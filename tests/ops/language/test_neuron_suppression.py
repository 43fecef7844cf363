from __future__ import annotations

import pytest
import torch
from helpers.tiny_language import tiny_language_model, write_autoencoder

from efface.models.autoencoder import Autoencoder, load_autoencoder
from efface.models.causal_lm import CausalLM
from efface.ops.editing.feature_filter import feature_filter
from efface.ops.language.concept_features import Activity, concept_tokens, rank_features, vocabulary_signs
from efface.ops.language.neuron_suppression import LayerFeatures, suppression_coefficients
from efface.ops.language.text_batches import TextBatches


@pytest.fixture(scope="module")
def model() -> CausalLM:
    return tiny_language_model()


@pytest.fixture(scope="module")
def autoencoder(model: CausalLM, tmp_path_factory: pytest.TempPathFactory) -> Autoencoder:
    return load_autoencoder(write_autoencoder(tmp_path_factory.mktemp("sae"), model, 1, "mlp_out"), model)


def test_new_output_vectors_are_those_of_the_papers_formula(autoencoder: Autoencoder) -> None:
    rows = torch.randn(24, 16, generator=torch.Generator().manual_seed(3))
    features, signs, neuron_signs = [3, 7], torch.tensor([-1.0, 1.0]), torch.ones(24)
    neuron_signs[5] = -1.0
    layer = LayerFeatures(autoencoder, features, signs, neuron_signs)
    coefficients = suppression_coefficients(rows, layer, strength=10.0, threshold=0.6)
    changed = rows + coefficients @ autoencoder.decoder[features]
    weights = rows @ autoencoder.encoder[:, features]
    largest = weights.abs().max()
    mean, std = rows.mean(-1, keepdim=True), rows.std(-1, keepdim=True) + 1e-5
    for j in range(24):
        codes = autoencoder.encode(rows[j]) * std[j]
        error = rows[j] - (codes @ autoencoder.decoder + mean[j])
        for place, feature in enumerate(features):
            if weights[j, place].abs() > 0.6 * weights[:, place].abs().max():
                codes[feature] = signs[place] * 10.0 * largest * neuron_signs[j]
        expected = codes @ autoencoder.decoder + mean[j] + error
        torch.testing.assert_close(changed[j], expected, atol=1e-3, rtol=1e-3)
    assert bool((coefficients == 0).all(1).any()), "neurons outside J keep their output vectors"


def test_a_filter_equals_zeroed_features_with_the_error_added_back(autoencoder: Autoencoder) -> None:
    states = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(4)) * 3
    features = [0, 3, 9]
    bias = autoencoder.encoder_bias - autoencoder.decoder_bias @ autoencoder.encoder
    tensors = {
        "encoder": autoencoder.encoder[:, features],
        "encoder_bias": bias[features],
        "decoder": autoencoder.decoder[features],
        "threshold": autoencoder.threshold[features],
    }
    codes = autoencoder.encode(states)
    error = states - autoencoder.reconstruct(states)
    zeroed = codes.clone()
    zeroed[..., features] = 0
    centred, scale = autoencoder.normalized(states)
    decoded = (zeroed @ autoencoder.decoder + autoencoder.decoder_bias) * scale + (states - centred)
    torch.testing.assert_close(feature_filter(tensors, 1.0, True)(states), decoded + error)
    assert torch.equal(feature_filter(tensors, 0.0, True)(states), states)


def test_features_of_other_texts_are_left_out() -> None:
    forget = Activity(torch.tensor([3.0, 2.0, 1.0, 0.0]), torch.ones(4))
    retain = Activity(torch.tensor([0.0, 0.0, 0.0, 1.0]), torch.tensor([0.5, 0.0, 0.001, 0.9]))
    assert rank_features(forget, retain, max_frequency=0.01) == [1, 2]


def test_concept_tokens_are_those_that_other_texts_lack(model: CausalLM) -> None:
    forget = TextBatches(model, ["what is a gun ?", "a gun is used to shoot ."])
    retain = TextBatches(model, ["what is a cat ?", "a cat is used to meow ."] * 9)
    words = {model.detokenize([token]) for token in concept_tokens(forget, retain)}
    assert words == {"gun", "shoot"}


def test_a_direction_along_a_tokens_unembedding_makes_it_likelier(model: CausalLM) -> None:
    unembedding = model.module.get_output_embeddings().weight.detach().float()
    directions = torch.stack([unembedding[11], -unembedding[11], torch.zeros(16)])
    assert vocabulary_signs(model, directions[:2], [11], top_k=1, least=1).tolist() == [1, -1]
