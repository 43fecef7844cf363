"""Masks of salient weights: which entries they mark, over maps and concepts."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model
from torch import Tensor

from efface.core.errors import EffaceError, UnknownNameError
from efface.ops.training.saliency import SaliencyConfig, saliency_mask, summed_gradients
from efface.ops.training.student import Student

GRADIENT = {"w": torch.tensor([[1.0, -4.0], [3.0, 0.5]])}


def test_a_map_marks_the_largest_or_the_smallest_gradients() -> None:
    assert saliency_mask(GRADIENT, 0.5)["w"].tolist() == [[0, 1], [1, 0]]
    assert saliency_mask(GRADIENT, 0.5, "smallest")["w"].tolist() == [[1, 0], [0, 1]]
    assert saliency_mask(GRADIENT, 0.01)["w"].sum() == 1, "at least one entry"
    with pytest.raises(EffaceError, match="set saliency_fraction above 0, at most 1"):
        saliency_mask(GRADIENT, 0.0)
    with pytest.raises(UnknownNameError, match="unknown kept entries 'large'"):
        saliency_mask(GRADIENT, 0.5, "large")


def test_gradients_are_summed_along_the_descent_and_the_student_returns() -> None:
    student = Student(tiny_model(), "cross_kv")
    name, tensor = next(iter(student.trainable_params.items()))
    start = tensor.detach().clone()
    sums = summed_gradients(student, lambda: 0.5 * tensor.square().sum(), 2, 0.1)
    torch.testing.assert_close(sums[name], 1.9 * start)
    assert torch.equal(tensor, start)
    assert all(not other.any() for other_name, other in sums.items() if other_name != name)


def test_maps_of_a_concept_intersect_and_concepts_unite() -> None:
    student = Student(tiny_model(), "cross_kv")
    name, tensor = next(iter(student.trainable_params.items()))
    count = tensor.numel()

    def loss_of(*starts: int) -> list[Tensor]:
        """Losses of one step each whose gradient is 1 for half of the entries, from a start."""
        rows = [torch.zeros(count) for _ in starts]
        for row, start in zip(rows, starts, strict=True):
            row[torch.arange(start, start + count // 2) % count] = 1
        return [(row.view_as(tensor) * tensor).sum() for row in rows]

    quarter = count // 4
    first, second = iter(loss_of(0, quarter)), iter(loss_of(count // 2, count // 2))
    mask = SaliencyConfig(0.5, 2, 1, 0.0).mask(student, [lambda: next(first), lambda: next(second)])[name].flatten()
    assert mask[quarter : count // 2].all(), "in both maps of the first concept"
    assert not mask[:quarter].any()
    assert mask[count // 2 :].all(), "of the second concept"
    with pytest.raises(EffaceError, match="saliency_fraction=1"):
        SaliencyConfig(0.5, 0, 1, 0.0).mask(student, [])
