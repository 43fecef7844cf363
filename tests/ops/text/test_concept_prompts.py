"""Prompts with a concept, and the target predictions for them."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.errors import EffaceError
from efface.models.soft_prompt import SoftTokens
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.text.concept_prompts import ConceptPrompts
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.training.trajectory_config import TrajectoryConfig
from efface.ops.training.trajectory_pool import TrajectoryBatch

TEMPLATES = ("a sketch of a {} in the woods", "a photo of a {}")
CONTEXTS = ("a sketch of the woods", "a photo")


@pytest.fixture(scope="module")
def prompts(pocket: StableDiffusionModel) -> ConceptPrompts:
    return ConceptPrompts.from_templates(pocket, ["knife"], TEMPLATES, TrajectoryConfig(1, 2), seed=0)


@pytest.fixture(scope="module")
def batch(prompts: ConceptPrompts) -> TrajectoryBatch:
    return prompts.pool.sample(6, torch.Generator().manual_seed(0))


def predict(model: StableDiffusionModel, batch: TrajectoryBatch, texts: list[str]) -> torch.Tensor:
    with torch.no_grad():
        return model.predict(batch.z, batch.t, model.encode(texts)).value


def test_concept_free_target_is_the_prediction_for_the_prompt_without_the_concept(
    pocket: StableDiffusionModel, prompts: ConceptPrompts, batch: TrajectoryBatch
) -> None:
    contexts = [CONTEXTS[i] for i in batch.prompt_index.tolist()]
    assert set(contexts) == set(CONTEXTS)
    target = prompts.target(pocket, batch, None, "concept_free", 0.0)
    torch.testing.assert_close(target, predict(pocket, batch, contexts), rtol=1e-4, atol=1e-5)
    assert (target - batch.conditional).square().mean() > 1e-4, "the prompt's own prediction differs"


def test_concept_free_target_does_not_depend_on_the_attack(
    pocket: StableDiffusionModel, prompts: ConceptPrompts, batch: TrajectoryBatch
) -> None:
    tokens = prompts.prompt_tokens[batch.prompt_index]
    random_ids = torch.randint(400, tokens.context_mask.shape, generator=torch.Generator().manual_seed(0))
    soft = SoftTokens(embedding_table(pocket).float()[random_ids], tokens.context_mask)

    def targets(name: str) -> list[torch.Tensor]:
        return [prompts.target(pocket, batch, attack, name, 1.0) for attack in (None, soft)]

    torch.testing.assert_close(*targets("concept_free"))
    assert not torch.allclose(*targets("neg_keep_context"))


def test_eta_guides_away_from_the_concept(
    pocket: StableDiffusionModel, prompts: ConceptPrompts, batch: TrajectoryBatch
) -> None:
    weak, strong = (prompts.target(pocket, batch, None, "concept_free", eta) for eta in (0.0, 2.0))
    concept = predict(pocket, batch, ["knife"] * len(batch.t))
    torch.testing.assert_close(weak - strong, 2.0 * (concept - batch.unconditional), rtol=1e-4, atol=1e-4)


def test_negative_targets_are_their_formulae() -> None:
    model = tiny_model()
    prompts = ConceptPrompts.from_templates(model, ["gun"], ["a {} x", "my {}"], TrajectoryConfig(1, 3), seed=0)
    batch = prompts.pool.sample_each([0, 1, 1], torch.Generator().manual_seed(0))
    assert batch.prompt_index.tolist() == [0, 1, 1]
    e_0, e_p, e_c = batch.unconditional, batch.conditional, predict(model, batch, ["gun"] * 3)
    for name, expected in {
        "neg_concept": e_0 - 2 * (e_c - e_0),
        "neg_prompt": e_0 - 2 * (e_p - e_0),
        "neg_keep_context": e_p - 3 * (e_c - e_0),
    }.items():
        torch.testing.assert_close(prompts.target(model, batch, None, name, 2.0), expected, atol=1e-5, rtol=1e-5)


def test_no_template_is_an_error(pocket: StableDiffusionModel) -> None:
    with pytest.raises(EffaceError, match="no prompt to erase"):
        ConceptPrompts.from_templates(pocket, ["knife"], [], TrajectoryConfig(1, 2), seed=0)


def test_an_erased_phrase_replaces_the_prompts_own(pocket: StableDiffusionModel) -> None:
    prompts = ConceptPrompts.from_templates(
        pocket, ["knife", "blade"], TEMPLATES, TrajectoryConfig(1, 2), seed=0, erased_phrase="knife"
    )
    assert len(prompts.prompts) == 4
    knife = pocket.encode(["knife"]).states
    torch.testing.assert_close(prompts.concept_cond.states, knife.expand(4, -1, -1))
