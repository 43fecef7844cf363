from __future__ import annotations

import torch
from helpers.tiny import tiny_model

from efface.ops.framed import framed
from efface.ops.made_up import MadeUpWords
from efface.ops.soft_prompts import embedding_table
from efface.ops.student import Student


def test_nothing_is_lost_before_the_first_step_and_much_after_a_wild_one() -> None:
    model = tiny_model()
    student, frames = Student(model, "text_all"), framed(model, ["a gun by cat", "my gun"], ["gun", "gun"])
    made_up = MadeUpWords(student)
    before = made_up(frames, torch.Generator().manual_seed(0))
    assert abs(float(before.detach())) < 1e-5
    with torch.no_grad():
        for master in student.parameters():
            master += 0.1 * torch.randn(master.shape, generator=torch.Generator().manual_seed(1))
    loss = made_up(frames, torch.Generator().manual_seed(0))
    assert float(loss.detach()) > 0.01
    loss.backward()
    assert all(master.grad is not None and bool(master.grad.isfinite().all()) for master in student.parameters())


def test_made_up_words_are_spread_as_words_are() -> None:
    model = tiny_model()
    made_up, embeddings = MadeUpWords(Student(model, "text_all")), embedding_table(model).float()
    drawn = made_up.draw((2000, 1), torch.Generator().manual_seed(0))[:, 0]
    assert torch.allclose(drawn.mean(0), embeddings.mean(0), atol=0.1 * float(embeddings.std()))
    assert torch.allclose(torch.cov(drawn.T), torch.cov(embeddings.T), atol=0.2 * float(embeddings.var()))
