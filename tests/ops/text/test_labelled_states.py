"""States of a text encoder as labelled vectors."""

from __future__ import annotations

import pytest
import torch

from efface.core.concept import Concept
from efface.core.errors import UnknownNameError
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.linear_erasure import InlpEraser, LeaceEraser
from efface.ops.tensor_conversion import to_torch
from efface.ops.text.labelled_states import LabelledStates, state_edit

CONCEPT = Concept("gun", synonyms=("a pistol",), templates=("a {} at sea", "{}"), retain_prompts=("a cat", "a dog"))


def rows(model: StableDiffusionModel, concept: Concept = CONCEPT, places: str = "all") -> LabelledStates:
    return LabelledStates.of(model, [concept], templates=0, places=places)


def test_every_word_has_a_class_for_each_kind_of_place(tiny: StableDiffusionModel) -> None:
    found = rows(tiny)
    assert int(found.label.max()) == 8, "two words by four kinds"
    assert [int(found.position_kind[found.label == label].unique()) for label in range(1, 9)] == [1, 2, 3, 4] * 2
    assert len(found.x) == len(found.label) == len(found.position_kind)
    others = found.position_kind[found.label == 0]
    assert (others == 0).sum() == 3, "two retain prompts and the empty one begin"
    assert (others == 1).sum() == 0


def test_tokens_before_the_word_are_nobodys(tiny: StableDiffusionModel) -> None:
    """A causal encoder does not know there what comes."""
    found, frames = rows(tiny, Concept("gun", templates=("a {} at sea",))), tiny.tokenize(["a gun at sea"])
    states = tiny.encode(frames).states[0].double()
    own = found.x[found.label > 0]
    assert torch.allclose(own, states[2:])
    assert int((found.label == 1).sum()) == 1


def test_places_choose(tiny: StableDiffusionModel) -> None:
    assert set(rows(tiny, places="tail").position_kind[rows(tiny, places="tail").label > 0].tolist()) == {3, 4}
    assert int(rows(tiny, places="subject").label.max()) == 2
    with pytest.raises(UnknownNameError, match="unknown places 'tails': did you mean 'tail'"):
        rows(tiny, places="tails")


def test_contrasts_give_the_differences_of_means_by_kind(tiny: StableDiffusionModel) -> None:
    found = rows(tiny, Concept("gun", retain_prompts=("a cat", "a dog")))
    z = found.mean_difference_targets()
    assert torch.allclose(z.sum(0), torch.zeros(z.shape[1], dtype=z.dtype), atol=1e-12)
    eos = 2
    mean = found.x[found.label == 2].mean(0) - found.x[(found.label == 0) & (found.position_kind == 3)].mean(0)
    assert found.position_kind[found.label == eos].unique().tolist() == [3]
    assert torch.allclose((found.x.T @ z)[:, eos - 1], mean)


def test_the_edit_takes_the_differences_away_and_leaves_the_others_mean(tiny: StableDiffusionModel) -> None:
    found = rows(tiny)
    matrix = LeaceEraser().fit(found.x, found.mean_difference_targets()).matrix
    edit, tensors = state_edit(matrix, found.offset())
    assert (edit.component, edit.op) == ("text_encoder", "state")
    after = found.x @ to_torch(tensors["state.matrix"]).double().T + to_torch(tensors["state.bias"]).double()
    assert float((after.T @ found.mean_difference_targets()).abs().max()) < 1e-4
    assert torch.allclose(after[found.label == 0].mean(0), found.offset(), atol=1e-4)


def test_whitened_projections_are_projections(tiny: StableDiffusionModel) -> None:
    found = rows(tiny)
    for whiten in (0.0, 0.01):
        matrix = found.projection(InlpEraser(2), whiten)
        assert torch.allclose(matrix @ matrix, matrix, atol=1e-8)
    assert not torch.allclose(matrix, matrix.T, atol=1e-3), "oblique where it was whitened"


def test_without_retain_prompts_the_same_sentences_stand_beside(tiny: StableDiffusionModel) -> None:
    found = rows(tiny, Concept("gun", templates=("a {} at sea",)))
    assert int((found.position_kind[found.label == 0] == 0).sum()) == 2, "'at sea' and the empty prompt"
