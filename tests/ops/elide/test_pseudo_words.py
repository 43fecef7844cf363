from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model
from torch.nn.functional import normalize

from efface.ops.elide.pseudo_words import PseudoWords
from efface.ops.text.concept_prompts import ConceptPrompts, TrajectoryConfig
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.training.student import Student


@pytest.mark.parametrize("form", ["seen", "said"])
def test_nothing_is_lost_before_the_first_step_and_much_after_a_wild_one(form: str) -> None:
    model = tiny_model()
    student = Student(model, "text_all")
    domain = ConceptPrompts.of(model, ["gun"], ["a {} by cat", "my {}"], TrajectoryConfig(1, 2, 1.0), 0)
    hold = getattr(PseudoWords(student, 0.6), form)
    before = hold(domain, 4, torch.Generator().manual_seed(0))
    assert abs(float(before.detach())) < 1e-5
    with torch.no_grad():
        for master in student.parameters():
            master += 0.1 * torch.randn(master.shape, generator=torch.Generator().manual_seed(1))
    loss = hold(domain, 4, torch.Generator().manual_seed(0))
    assert float(loss.detach()) > {"seen": 1e-6, "said": 0.01}[form]
    loss.backward()
    assert all(master.grad is not None and bool(master.grad.isfinite().all()) for master in student.parameters())


def test_made_up_words_are_like_the_concept_s_up_to_a_cosine() -> None:
    model = tiny_model()
    table = embedding_table(model).float()
    mean, ids = table.mean(0), locate_concept(model, ["my gun"] * 200, ["gun"] * 200).tokens.ids
    drawn = PseudoWords(Student(model, "text_all"), 0.6).draw(ids, torch.Generator().manual_seed(0), 0.0, 0.6)
    likeness = (normalize(drawn - mean, dim=-1) * normalize(table[ids] - mean, dim=-1)).sum(-1)
    assert float(likeness.min()) >= -1e-4
    assert float(likeness.max()) <= 0.6 + 1e-4
    assert 0.27 < float(likeness.mean()) < 0.33
    lengths = (drawn - mean).norm(dim=-1)
    assert float(lengths.min()) >= float((table - mean).norm(dim=-1).min()) - 1e-4
    assert len({round(float(x), 4) for x in drawn[:, 1, 0]}) > 100, "another word in every sentence"


def test_every_other_sentence_has_kin_of_the_concept_s_word() -> None:
    model = tiny_model()
    frames = locate_concept(model, ["my gun"] * 40, ["gun"] * 40)
    made_up = PseudoWords(Student(model, "text_all"), 0.6)
    assert made_up.synonym_embeddings(frames, 1.0, torch.Generator().manual_seed(0)) is None
    soft = made_up.synonym_embeddings(frames, 0.8, torch.Generator().manual_seed(0))
    assert soft is not None
    assert soft.mask.any(1).tolist() == [i % 2 == 0 for i in range(40)]
    assert bool((soft.mask <= frames.concept_mask()).all()), "nothing but the concept's word"
    table = embedding_table(model).float()
    likeness = (
        normalize(soft.embeddings - table.mean(0), dim=-1) * normalize(table[frames.tokens.ids] - table.mean(0), dim=-1)
    ).sum(-1)
    assert float(likeness.min()) >= 0.8 - 1e-4
    assert float(likeness.max()) <= 1 + 1e-4


def test_how_many_words_lie_beyond_those_that_are_held() -> None:
    model = tiny_model()
    beyond = PseudoWords(Student(model, "text_all"), 0.999).fraction_within
    assert beyond("gun", []) == 0
    assert beyond("gun", ["cat", "dog"]) == 0, "random embeddings"
    assert beyond("my gun", ["cat", "gun"]) == 0.5, "as near as the nearest of its tokens"
