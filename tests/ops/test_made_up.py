from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.ops.framed import framed
from efface.ops.made_up import MadeUpWords
from efface.ops.retention import Retained
from efface.ops.sentences import Runs
from efface.ops.soft_prompts import embedding_table
from efface.ops.student import Student


def test_nothing_is_lost_before_the_first_step_and_much_after_a_wild_one() -> None:
    model = tiny_model()
    student, frames = Student(model, "text_all"), framed(model, ["a gun by cat", "my gun"], ["gun", "gun"])
    made_up = MadeUpWords(student, torch.tensor([3, 4, 5]))
    before = made_up(frames, torch.Generator().manual_seed(0))
    assert abs(float(before.detach())) < 1e-5
    with torch.no_grad():
        for master in student.parameters():
            master += 0.1 * torch.randn(master.shape, generator=torch.Generator().manual_seed(1))
    loss = made_up(frames, torch.Generator().manual_seed(0))
    assert float(loss.detach()) > 0.01
    loss.backward()
    assert all(master.grad is not None and bool(master.grad.isfinite().all()) for master in student.parameters())


def test_made_up_words_lie_between_the_given_ones() -> None:
    model = tiny_model()
    student, table = Student(model, "text_all"), embedding_table(model).float()
    drawn = MadeUpWords(student, torch.tensor([3, 5])).draw((200, 1), torch.Generator().manual_seed(0))[:, 0]
    way = table[5] - table[3]
    share = (drawn - table[3]) @ way / (way @ way)
    assert torch.allclose(table[3] + share[:, None] * way, drawn, atol=1e-5)
    assert float(share.min()) >= -1e-5
    assert float(share.max()) <= 1 + 1e-5
    assert 0.4 < float(share.mean()) < 0.6
    assert float(share.std()) > 0.2


def test_they_lie_between_words_of_the_retain_set_that_no_sentence_has() -> None:
    model = tiny_model()
    student, frames = Student(model, "text_all"), framed(model, ["a gun by x"], ["gun"])

    def made_up(*retain: str) -> MadeUpWords:
        concept = Concept("gun", retain=retain)
        retained = Retained.of(model, [concept], Runs(1, 2, 1.0), empty=True, seed=0)
        return MadeUpWords.between(student, retained, [frames])

    (cat,) = set(model.tokenize(["a cat"]).ids.flatten().tolist()) - set(model.tokenize(["a"]).ids.flatten().tolist())
    drawn = made_up("a cat", "x").draw((4, 2), torch.Generator().manual_seed(0))
    assert torch.allclose(drawn, embedding_table(model).float()[cat].expand_as(drawn), atol=1e-6), "cat alone is not in the sentence"
    with pytest.raises(EffaceError, match="none of their own"):
        made_up("a", "x")
