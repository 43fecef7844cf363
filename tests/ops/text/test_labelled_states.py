"""Text encoder states with labels, and the edit that a linear eraser makes of them."""

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


def labelled(model: StableDiffusionModel, concept: Concept = CONCEPT, positions: str = "all") -> LabelledStates:
    return LabelledStates.from_concepts(model, [concept], num_templates=0, positions=positions)


def test_every_phrase_has_a_label_for_each_position_kind(tiny: StableDiffusionModel) -> None:
    data = labelled(tiny)
    assert int(data.labels.max()) == 8, "two words by four kinds"
    assert [int(data.position_kinds[data.labels == label].unique()) for label in range(1, 9)] == [1, 2, 3, 4] * 2
    assert len(data.states) == len(data.labels) == len(data.position_kinds)
    others = data.position_kinds[data.labels == 0]
    assert (others == 0).sum() == 3, "BOS of two retain prompts and the empty prompt"
    assert (others == 1).sum() == 0


def test_tokens_before_the_concept_have_no_label(tiny: StableDiffusionModel) -> None:
    """A causal encoder does not know the following tokens."""
    data = labelled(tiny, Concept("gun", templates=("a {} at sea",)))
    states = tiny.encode(["a gun at sea"]).states[0].double()
    assert torch.allclose(data.states[data.labels > 0], states[2:])
    assert int((data.labels == 1).sum()) == 1


def test_positions_select_position_kinds(tiny: StableDiffusionModel) -> None:
    assert set(
        labelled(tiny, positions="tail").position_kinds[labelled(tiny, positions="tail").labels > 0].tolist()
    ) == {3, 4}
    assert int(labelled(tiny, positions="subject").labels.max()) == 2
    with pytest.raises(UnknownNameError, match="unknown positions 'tails': did you mean 'tail'"):
        labelled(tiny, positions="tails")


def test_mean_difference_targets_give_the_mean_differences_of_each_position_kind(tiny: StableDiffusionModel) -> None:
    data = labelled(tiny, Concept("gun", retain_prompts=("a cat", "a dog")))
    z = data.mean_difference_targets()
    assert torch.allclose(z.sum(0), torch.zeros(z.shape[1], dtype=z.dtype), atol=1e-12)
    eos = 2
    mean = data.states[data.labels == 2].mean(0) - data.states[(data.labels == 0) & (data.position_kinds == 3)].mean(0)
    assert data.position_kinds[data.labels == eos].unique().tolist() == [3]
    assert torch.allclose((data.states.T @ z)[:, eos - 1], mean)


def test_the_edit_removes_the_mean_differences_and_keeps_the_offset(tiny: StableDiffusionModel) -> None:
    data = labelled(tiny)
    matrix = LeaceEraser().fit(data.states, data.mean_difference_targets()).matrix
    edit, tensors = state_edit(matrix, data.offset())
    assert (edit.component, edit.op) == ("text_encoder", "state")
    after = data.states @ to_torch(tensors["state.matrix"]).double().T + to_torch(tensors["state.bias"]).double()
    assert float((after.T @ data.mean_difference_targets()).abs().max()) < 1e-4
    assert torch.allclose(after[data.labels == 0].mean(0), data.offset(), atol=1e-4)


def test_projections_are_idempotent(tiny: StableDiffusionModel) -> None:
    data = labelled(tiny)
    for whiten in (0.0, 0.01):
        matrix = data.projection(InlpEraser(2), whiten)
        assert torch.allclose(matrix @ matrix, matrix, atol=1e-8)
    assert not torch.allclose(matrix, matrix.T, atol=1e-3), "whitening makes it oblique"


def test_prompts_without_the_concept_replace_missing_retain_prompts(tiny: StableDiffusionModel) -> None:
    data = labelled(tiny, Concept("gun", templates=("a {} at sea",)))
    assert int((data.position_kinds[data.labels == 0] == 0).sum()) == 2, "'at sea' and the empty prompt"
