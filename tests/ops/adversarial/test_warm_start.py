"""Searches that go on where they stopped."""

from __future__ import annotations

import torch
from helpers.tiny import tiny_model

from efface.ops.adversarial.embedding_attack import EmbeddingAttack
from efface.ops.adversarial.warm_start import WarmStartBuffer
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.soft_prompts import embedding_table


def searches(anew: float) -> tuple[WarmStartBuffer, torch.Tensor]:
    model = tiny_model()
    frames, table = locate_concept(model, ["a gun by x", "my gun"], ["gun", "gun"]), embedding_table(model).float()
    return WarmStartBuffer(EmbeddingAttack(), frames, table, anew), table[frames.tokens.ids]


def test_a_search_goes_on_from_what_was_found_in_its_sentence() -> None:
    earlier, own = searches(anew=0.0)
    both, generator = torch.tensor([0, 1]), torch.Generator().manual_seed(0)
    assert torch.equal(earlier.start(both, generator), own), "the first begins at the sentence itself"
    found = own[1:] + 1
    earlier.store(torch.tensor([1]), found)
    start = earlier.start(both, generator)
    assert torch.equal(start[0], own[0])
    assert torch.equal(start[1], found[0])


def test_a_share_of_them_begins_anew() -> None:
    earlier, own = searches(anew=0.5)
    earlier.store(torch.tensor([0, 1]), own + 1)
    many = torch.zeros(400, dtype=torch.long)
    anew = (earlier.start(many, torch.Generator().manual_seed(0)) == own[0]).all(2).all(1)
    assert 0.4 < float(anew.float().mean()) < 0.6


def test_shorter_embeddings_are_kept_and_a_state_goes_round() -> None:
    earlier, own = searches(anew=0.0)
    earlier.store(torch.tensor([0]), own[:1, :3] + 1)
    other, _ = searches(anew=0.0)
    other.load_state({name: tensor.clone() for name, tensor in earlier.state().items()})
    starts = [e.start(torch.tensor([0, 1]), torch.Generator().manual_seed(0)) for e in (earlier, other)]
    assert torch.equal(*starts)
    assert torch.equal(starts[0][0, :3], own[0, :3] + 1)
    assert torch.equal(starts[0][0, 3:], own[0, 3:])
