from __future__ import annotations

import torch
from helpers.tiny import tiny_model
from torch.nn.functional import normalize

from efface.ops.framed import framed
from efface.ops.made_up import MadeUpWords
from efface.ops.sentences import Runs, Sentences
from efface.ops.soft_prompts import embedding_table
from efface.ops.student import Student


def test_nothing_is_lost_before_the_first_step_and_much_after_a_wild_one() -> None:
    model = tiny_model()
    student = Student(model, "text_all")
    domain = Sentences.of(model, ["gun"], ["a {} by cat", "my {}"], Runs(1, 2, 1.0), 0)
    made_up = MadeUpWords(student, 0.6)
    before = made_up(domain, 4, torch.Generator().manual_seed(0))
    assert abs(float(before.detach())) < 1e-9
    with torch.no_grad():
        for master in student.parameters():
            master += 0.1 * torch.randn(master.shape, generator=torch.Generator().manual_seed(1))
    loss = made_up(domain, 4, torch.Generator().manual_seed(0))
    assert float(loss.detach()) > 1e-6
    loss.backward()
    assert all(master.grad is not None and bool(master.grad.isfinite().all()) for master in student.parameters())


def test_made_up_words_are_like_the_concept_s_up_to_a_cosine() -> None:
    model = tiny_model()
    table = embedding_table(model).float()
    mean, ids = table.mean(0), framed(model, ["my gun"] * 200, ["gun"] * 200).tokens.ids
    drawn = MadeUpWords(Student(model, "text_all"), 0.6).draw(ids, torch.Generator().manual_seed(0))
    likeness = (normalize(drawn - mean, dim=-1) * normalize(table[ids] - mean, dim=-1)).sum(-1)
    assert float(likeness.min()) >= -1e-4
    assert float(likeness.max()) <= 0.6 + 1e-4
    assert 0.27 < float(likeness.mean()) < 0.33
    lengths = (drawn - mean).norm(dim=-1)
    assert float(lengths.min()) >= float((table - mean).norm(dim=-1).min()) - 1e-4
    assert len({round(float(x), 4) for x in drawn[:, 1, 0]}) > 100, "another word in every sentence"
