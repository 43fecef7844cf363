"""Embedding attack: what it optimises, from which embeddings it starts, and what it leaves unchanged."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.errors import EffaceError, UnknownNameError
from efface.models.soft_prompt import SoftTokens
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.adversarial.attack_objective import OBJECTIVES, AttackTarget
from efface.ops.adversarial.embedding_attack import EmbeddingAttack, inside_out
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.similarity import SIMILARITIES, Similarity
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.training.student import Student

PROMPTS = ["a gun x", "my dog gun"]


def attack_target(model: StableDiffusionModel, kind: str = "kv_distance", scale: float = 0.3) -> AttackTarget:
    """A student whose text encoder has random changes, and its original."""
    student = Student(model, "text_all")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in student.trainable_params.values():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(scale * noise * parameter.abs().mean())
    return AttackTarget(student.frozen_encoder(), model.encode, Similarity(model, kind), embedding_table(model))


def run(model: StableDiffusionModel, attack: EmbeddingAttack, kind: str) -> tuple[SoftTokens, torch.Tensor]:
    prompt_tokens, concept_only = locate_concept(model, PROMPTS, ["gun"] * 2), locate_concept(model, ["gun"], ["gun"])
    generator = torch.Generator().manual_seed(1)
    return inside_out(attack, attack_target(model, kind), prompt_tokens, concept_only, generator=generator)


@pytest.mark.parametrize(
    ("objective", "kind"),
    [(objective, "token_cosine") for objective in OBJECTIVES]
    + [(objective, "kv_distance") for objective in OBJECTIVES if objective not in ("hide_concept", "concept_only")],
)
def test_steps_increase_the_objective(objective: str, kind: str) -> None:
    model = tiny_model()
    _, start = run(model, EmbeddingAttack(objective, 1.0, 0, 0.5), kind)
    _, end = run(model, EmbeddingAttack(objective, 1.0, 25, 0.5), kind)
    assert (end > start).all(), (start, end)


@pytest.mark.parametrize("objective", ["hide_concept", "concept_only"])
def test_prompt_is_the_optimum_if_it_is_its_own_reference(objective: str) -> None:
    model = tiny_model()
    _, value = run(model, EmbeddingAttack(objective, 1.0, 0), "kv_distance")
    expected = {"hide_concept": 0.0, "concept_only": 1.0}[objective]
    torch.testing.assert_close(value, torch.full((2,), expected), atol=1e-6, rtol=0)


def test_norms_stay_within_the_vocabulary_s_and_the_concept_is_unchanged() -> None:
    model = tiny_model()
    soft, _ = run(model, EmbeddingAttack(steps=5, learning_rate=0.5), "kv_distance")
    table = embedding_table(model).float()
    norms, lengths = table.norm(dim=-1), soft.embeddings[soft.mask].norm(dim=-1)
    assert float(lengths.max()) <= float(norms.quantile(0.95)) * 1.001
    assert float(lengths.min()) >= float(norms.quantile(0.05)) * 0.999
    prompt_tokens = locate_concept(model, PROMPTS, ["gun"] * 2)
    concept_mask, original = prompt_tokens.concept_mask(), table[prompt_tokens.tokens.ids]
    assert soft.mask.equal(prompt_tokens.context_mask)
    assert not soft.mask[concept_mask].any()
    assert not soft.embeddings[soft.mask].isclose(original[soft.mask]).all()


def test_attack_tokens_and_start_embeddings() -> None:
    model = tiny_model()
    prompt_tokens = locate_concept(model, PROMPTS, ["gun"] * 2)
    original, context_mask = embedding_table(model)[prompt_tokens.tokens.ids].float(), prompt_tokens.context_mask

    def start(attack_tokens: str, random_init_prob: float) -> SoftTokens:
        attack = EmbeddingAttack(
            concept_weight=0.0, steps=0, attack_tokens=attack_tokens, random_init_prob=random_init_prob
        )
        return run(model, attack, "kv_distance")[0]

    assert start("template", 0.0).embeddings.equal(original)
    assert (start("all", 0.0).mask.sum(1) - context_mask.sum(1)).tolist() == [1, 1]
    random = start("all", 1.0).embeddings
    assert not random[context_mask].isclose(original[context_mask]).all(-1).all()
    assert random[~context_mask].equal(original[~context_mask]), "the concept's tokens do not start at random words"


def test_given_start_embeddings_replace_the_prompts_own() -> None:
    model = tiny_model()
    prompt_tokens = locate_concept(model, PROMPTS, ["gun"] * 2)
    given = embedding_table(model)[prompt_tokens.tokens.ids].float() + 1
    attack, target = EmbeddingAttack(steps=0), attack_target(model)
    soft, _ = inside_out(attack, target, prompt_tokens, prompt_tokens, start_embeddings=given)
    assert soft.embeddings.equal(given)
    assert soft.embeddings.data_ptr() != given.data_ptr()


def test_unknown_choices_and_prompts_without_a_context_are_errors() -> None:
    with pytest.raises(UnknownNameError, match="attack objective"):
        EmbeddingAttack("recover")
    with pytest.raises(UnknownNameError, match="choice of attack tokens"):
        EmbeddingAttack(attack_tokens="word")
    model = tiny_model()
    concept_only = locate_concept(model, ["gun"], ["gun"])
    with pytest.raises(EffaceError, match="nothing but the concept"):
        inside_out(EmbeddingAttack(), attack_target(model), concept_only, concept_only)


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_bfloat16_reaches_the_same_objective_as_float32(kind: str) -> None:
    values = []
    for dtype in (torch.float32, torch.bfloat16):
        _, value = run(tiny_model(dtype=dtype), EmbeddingAttack(steps=10, learning_rate=0.3), kind)
        assert value.dtype == torch.float32
        values.append(value.mean())
    torch.testing.assert_close(values[1], values[0], atol=0.1, rtol=0)
