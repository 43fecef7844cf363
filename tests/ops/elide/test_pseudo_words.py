"""Pseudo-words: their cosines to the concept's word, and the losses that retain them."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model
from torch.nn.functional import normalize

from efface.ops.elide.pseudo_words import PseudoWords
from efface.ops.text.concept_prompts import ConceptPrompts
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig


@pytest.mark.parametrize(("name", "min_loss"), [("prediction_loss", 1e-6), ("state_loss", 0.01)])
def test_losses_are_zero_before_training_and_grow_with_the_student_s_change(name: str, min_loss: float) -> None:
    model = tiny_model()
    student = Student(model, "text_all")
    templates = ["a {} by cat", "my {}"]
    prompts = ConceptPrompts.from_templates(model, ["gun"], templates, TrajectoryConfig(1, 2, 1.0), 0)
    loss_function = getattr(PseudoWords(student, 0.6), name)
    initial_loss = loss_function(prompts, 4, torch.Generator().manual_seed(0))
    assert abs(float(initial_loss.detach())) < 1e-5
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    loss = loss_function(prompts, 4, torch.Generator().manual_seed(0))
    assert float(loss.detach()) > min_loss
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in student.parameters())


def test_cosines_are_uniform_and_norms_those_of_the_vocabulary() -> None:
    model = tiny_model()
    table = embedding_table(model).float()
    mean, ids = table.mean(0), locate_concept(model, ["my gun"] * 200, ["gun"] * 200).tokens.ids
    pseudo_words = PseudoWords(Student(model, "text_all"), 0.6)
    embeddings = pseudo_words.sample_embeddings(ids, torch.Generator().manual_seed(0), 0.0, 0.6)
    cosines = (normalize(embeddings - mean, dim=-1) * normalize(table[ids] - mean, dim=-1)).sum(-1)
    assert float(cosines.min()) >= -1e-4
    assert float(cosines.max()) <= 0.6 + 1e-4
    assert 0.27 < float(cosines.mean()) < 0.33
    lengths = (embeddings - mean).norm(dim=-1)
    assert float(lengths.min()) >= float((table - mean).norm(dim=-1).min()) - 1e-4
    assert len({round(float(x), 4) for x in embeddings[:, 1, 0]}) > 100, "another word in every prompt"


def test_every_second_prompt_has_a_pseudo_synonym() -> None:
    model = tiny_model()
    prompt_tokens = locate_concept(model, ["my gun"] * 40, ["gun"] * 40)
    pseudo_words = PseudoWords(Student(model, "text_all"), 0.6)
    assert pseudo_words.synonym_embeddings(prompt_tokens, 1.0, torch.Generator().manual_seed(0)) is None
    soft = pseudo_words.synonym_embeddings(prompt_tokens, 0.8, torch.Generator().manual_seed(0))
    assert soft is not None
    assert soft.mask.any(1).tolist() == [i % 2 == 0 for i in range(40)]
    assert bool((soft.mask <= prompt_tokens.concept_mask()).all()), "only the concept's token changes"
    table = embedding_table(model).float()
    mean = table.mean(0)
    directions = normalize(table[prompt_tokens.tokens.ids] - mean, dim=-1)
    cosines = (normalize(soft.embeddings - mean, dim=-1) * directions).sum(-1)
    assert float(cosines.min()) >= 0.8 - 1e-4
    assert float(cosines.max()) <= 1 + 1e-4


def test_fraction_within_compares_the_closest_tokens() -> None:
    model = tiny_model()
    fraction_within = PseudoWords(Student(model, "text_all"), 0.999).fraction_within
    assert fraction_within("gun", []) == 0
    assert fraction_within("gun", ["cat", "dog"]) == 0, "random embeddings"
    assert fraction_within("my gun", ["cat", "gun"]) == 0.5
