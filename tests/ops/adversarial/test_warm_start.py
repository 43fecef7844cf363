"""Warm start: attacks continue from the result of the previous attack on the same prompt."""

from __future__ import annotations

import torch
from helpers.tiny import tiny_model

from efface.ops.adversarial.embedding_attack import EmbeddingAttack
from efface.ops.adversarial.warm_start import WarmStartBuffer
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.training.student import Student

PROMPTS = ["a gun by x", "my gun"]
BOTH = torch.tensor([0, 1])


def buffer_and_embeddings(restart_prob: float) -> tuple[WarmStartBuffer, torch.Tensor]:
    """A buffer of two prompts, and the prompts' own embeddings."""
    model = tiny_model()
    prompt_tokens, concept_only = (locate_concept(model, prompts, ["gun"] * 2) for prompts in (PROMPTS, ["gun"] * 2))
    buffer = WarmStartBuffer(EmbeddingAttack(), prompt_tokens, concept_only, model, restart_prob)
    return buffer, embedding_table(model).float()[prompt_tokens.tokens.ids]


def test_an_attack_starts_from_the_stored_embeddings_of_its_prompt() -> None:
    buffer, embeddings = buffer_and_embeddings(restart_prob=0.0)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(buffer.start_embeddings(BOTH, generator), embeddings), "the first attack starts from the prompt"
    buffer.store(torch.tensor([1]), embeddings[1:] + 1)
    start = buffer.start_embeddings(BOTH, generator)
    assert torch.equal(start[0], embeddings[0])
    assert torch.equal(start[1], embeddings[1] + 1)


def test_restart_prob_is_the_fraction_of_attacks_that_start_from_the_prompt() -> None:
    buffer, embeddings = buffer_and_embeddings(restart_prob=0.5)
    buffer.store(BOTH, embeddings + 1)
    same_prompt = torch.zeros(400, dtype=torch.long)
    start = buffer.start_embeddings(same_prompt, torch.Generator().manual_seed(0))
    assert 0.4 < float((start == embeddings[0]).all(2).all(1).float().mean()) < 0.6


def test_an_attack_stores_its_embeddings() -> None:
    model = tiny_model()
    prompt_tokens, concept_only = (locate_concept(model, prompts, ["gun"] * 2) for prompts in (PROMPTS, ["gun"] * 2))
    settings = EmbeddingAttack(steps=2, learning_rate=0.5)
    buffer = WarmStartBuffer(settings, prompt_tokens, concept_only, model, restart_prob=0.0)
    student, generator = Student(model, "text_all"), torch.Generator().manual_seed(0)
    soft, objective = buffer.attack(torch.tensor([1]), student, generator)
    assert objective.shape == (1,)
    assert torch.equal(buffer.start_embeddings(torch.tensor([1]), generator), soft.embeddings)


def test_state_restores_embeddings_of_truncated_prompts() -> None:
    buffer, embeddings = buffer_and_embeddings(restart_prob=0.0)
    buffer.store(torch.tensor([0]), embeddings[:1, :3] + 1)
    restored, _ = buffer_and_embeddings(restart_prob=0.0)
    restored.load_state({name: tensor.clone() for name, tensor in buffer.state().items()})
    starts = [b.start_embeddings(BOTH, torch.Generator().manual_seed(0)) for b in (buffer, restored)]
    assert torch.equal(*starts)
    assert torch.equal(starts[0][0, :3], embeddings[0, :3] + 1)
    assert torch.equal(starts[0][0, 3:], embeddings[0, 3:])
