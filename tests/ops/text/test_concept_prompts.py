"""What is to be predicted for sentences about a concept."""

from __future__ import annotations

import pytest
import torch

from efface.core.errors import EffaceError
from efface.models.protocol import Conditioning
from efface.models.soft_prompt import SoftTokens
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.text.concept_prompts import ConceptPrompts, TrajectoryConfig
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.training.trajectory_pool import TrajectoryBatch

TEMPLATES = ("a sketch of a {} in the woods", "a photo of a {}")
RESTS = ("a sketch of the woods", "a photo")


@pytest.fixture(scope="module")
def sentences(pocket: StableDiffusionModel) -> ConceptPrompts:
    return ConceptPrompts.of(pocket, ["knife"], TEMPLATES, TrajectoryConfig(1, 2), seed=0)


@pytest.fixture(scope="module")
def batch(sentences: ConceptPrompts) -> TrajectoryBatch:
    return sentences.pool.sample(6, torch.Generator().manual_seed(0))


def predicted(model: StableDiffusionModel, batch: TrajectoryBatch, prompts: list[str]) -> torch.Tensor:
    with torch.no_grad():
        return model.predict(batch.z, batch.t, model.encode(prompts)).value


def test_without_is_the_prediction_for_what_is_left_of_the_sentence(
    pocket: StableDiffusionModel, sentences: ConceptPrompts, batch: TrajectoryBatch
) -> None:
    rests = [RESTS[p] for p in batch.prompt.tolist()]
    assert set(rests) == set(RESTS)
    found = sentences.target(pocket, batch, None, "without", 0.0)
    torch.testing.assert_close(found, predicted(pocket, batch, rests), rtol=1e-4, atol=1e-5)
    assert (found - batch.conditional).square().mean() > 1e-4, "not the sentence's own"


def test_without_does_not_depend_on_what_was_found_in_the_sentence(
    pocket: StableDiffusionModel, sentences: ConceptPrompts, batch: TrajectoryBatch
) -> None:
    frames = sentences.frames[batch.prompt]
    soft = SoftTokens(
        embedding_table(pocket).float()[torch.randint(400, frames.context_mask.shape)], frames.context_mask
    )
    plain, attacked = (sentences.target(pocket, batch, s, "without", 1.0) for s in (None, soft))
    torch.testing.assert_close(plain, attacked)
    assert not torch.allclose(
        sentences.target(pocket, batch, soft, "rest", 1.0), sentences.target(pocket, batch, None, "rest", 1.0)
    )


def test_eta_pushes_away_from_the_name(
    pocket: StableDiffusionModel, sentences: ConceptPrompts, batch: TrajectoryBatch
) -> None:
    none, some = (sentences.target(pocket, batch, None, "without", eta) for eta in (0.0, 2.0))
    named = predicted(pocket, batch, ["knife"] * len(batch.t))
    torch.testing.assert_close(none - some, 2.0 * (named - batch.unconditional), rtol=1e-4, atol=1e-4)


def test_no_sentence_is_refused(pocket: StableDiffusionModel) -> None:
    with pytest.raises(EffaceError, match="no sentence to erase"):
        ConceptPrompts.of(pocket, ["knife"], [], TrajectoryConfig(1, 2), seed=0)


def test_words_beside_the_concept_stand_in_a_few_sentences_and_are_drawn_apart(pocket: StableDiffusionModel) -> None:
    about = ConceptPrompts.of(
        pocket, ["knife"], TEMPLATES, TrajectoryConfig(1, 2), seed=0, named="knife", beside=["blade", "knife"], each=1
    )
    assert (len(about.prompts), about.n_domain) == (3, 1), "what is there already is not there twice"
    assert "blade" in about.prompts[2]
    own, others = (about.draw(20, torch.Generator().manual_seed(0), beside=beside).prompt for beside in (False, True))
    assert set(own.tolist()) == {0, 1}
    assert set(others.tolist()) == {2}
    torch.testing.assert_close(about.concept_cond.states[2], pocket.encode(["knife"]).states[0])


def test_the_states_laid_on_a_sentence_s_places_are_drawn_as_the_sentence_without_the_concept(
    pocket: StableDiffusionModel, sentences: ConceptPrompts, batch: TrajectoryBatch
) -> None:
    laid = sentences.aligned_states[batch.prompt]
    wanted = predicted(pocket, batch, [RESTS[p] for p in batch.prompt.tolist()])
    with torch.no_grad():
        found = pocket.predict(batch.z, batch.t, Conditioning(laid, batch.cond.pooled)).value
    assert (found - wanted).square().mean() < 0.02 * (batch.conditional - wanted).square().mean()


def test_what_a_causal_encoder_cannot_know_is_not_asked_of_it(
    pocket: StableDiffusionModel, sentences: ConceptPrompts
) -> None:
    own = sentences.frames.concept_mask()
    with torch.no_grad():
        states = pocket.encode(sentences.frames.tokens).states
        later = pocket.encode(["a sketch of the beach"]).states
    first = int(own[0].nonzero()[0])
    torch.testing.assert_close(sentences.aligned_states[0, :first], states[0, :first])
    torch.testing.assert_close(sentences.aligned_states[0, first], states[0, first - 1])
    torch.testing.assert_close(
        sentences.aligned_states[0, first + 2], later[0, 4]
    )  # "the", which comes before the woods
    assert not torch.allclose(sentences.aligned_states[0, first + 3], later[0, 5], atol=1e-2)
