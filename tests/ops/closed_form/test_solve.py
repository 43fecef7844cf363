"""The solution against the published formulas, layer by layer, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from efface.core.errors import EffaceError
from efface.ops.closed_form import Invariants, LowRankUpdate, Pairs, Preserve, Problem

D = 12
SETTINGS = settings(max_examples=40, deadline=None)


def states(count: int, seed: int, width: int = D) -> Tensor:
    return torch.randn(width, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(pairs: int, num_preserved: int, ridge: float, seed: int, gram: bool = False, **options: object) -> Problem:
    weight = torch.rand(pairs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    preserve = Preserve()
    if num_preserved:
        r = states(num_preserved, seed + 2)
        preserve = Preserve(gram=r @ r.T) if gram else Preserve(r)
    return Problem(Pairs(states(pairs, seed), states(pairs, seed + 1), weight), preserve, ridge, **options)  # type: ignore[arg-type]


def layer_by_layer(p: Problem, w: Tensor) -> Tensor:
    """UCE as published: both sums of one layer from its own outputs, and an inverse."""
    k, a, weight = p.pairs.source, p.pairs.anchor, p.pairs.weight
    s = p.preserve.second_moment(D)
    left, right = p.ridge * w, p.ridge * torch.eye(D, dtype=torch.float64)
    for i in range(len(p.pairs)):
        left = left + weight[i] * torch.outer(w @ a[:, i], k[:, i])
        right = right + weight[i] * torch.outer(k[:, i], k[:, i])
    return (left + w @ s) @ torch.inverse(right + s)


shapes = st.tuples(st.integers(1, 20), st.integers(0, 20), st.floats(0.05, 10), st.integers(0, 10_000), st.booleans())


@SETTINGS
@given(shapes)
def test_one_edit_for_all_layers_is_the_published_formula_of_each(shape: tuple[int, int, float, int, bool]) -> None:
    p = problem(*shape)
    edit = p.solve()
    for o in (3, 7, 30):
        w = states(o, 99 + o).T.contiguous()
        torch.testing.assert_close(w + w @ edit.dense(), layer_by_layer(p, w), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(edit.lora_up(w) @ edit.right, w @ edit.dense(), rtol=1e-12, atol=1e-12)


@SETTINGS
@given(st.integers(1, 5), st.integers(0, 5), st.floats(0.05, 10), st.integers(0, 10_000))
def test_the_dual_system_equals_the_primal_one(pairs: int, num_preserved: int, ridge: float, seed: int) -> None:
    small = problem(pairs, num_preserved, ridge, seed)
    with_gram = problem(pairs, num_preserved, ridge, seed, gram=True)
    assert small.uses_dual()
    assert with_gram.uses_dual() == (num_preserved == 0)
    primal = Problem(small.pairs, Preserve(gram=small.preserve.second_moment(D)), ridge)
    assert not primal.uses_dual()
    torch.testing.assert_close(small.solve().dense(), primal.solve().dense(), rtol=1e-10, atol=1e-10)
    columns = states(4, seed + 9)
    torch.testing.assert_close(small.factor(columns), primal.factor(columns), rtol=1e-10, atol=1e-10)


@SETTINGS
@given(shapes)
def test_states_that_are_their_own_anchor_are_not_edited(shape: tuple[int, int, float, int, bool]) -> None:
    p = problem(*shape)
    same = Problem(Pairs(p.pairs.source, p.pairs.source, p.pairs.weight), p.preserve, p.ridge)
    assert float(same.solve().dense().abs().max()) == 0


@SETTINGS
@given(shapes, st.randoms(use_true_random=False))
def test_the_order_of_a_joint_solve_does_not_matter(shape: tuple[int, int, float, int, bool], random: object) -> None:
    p = problem(*shape)
    order = list(range(len(p.pairs)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = Pairs(p.pairs.source[:, order], p.pairs.anchor[:, order], p.pairs.weight[order])
    torch.testing.assert_close(
        Problem(shuffled, p.preserve, p.ridge).solve().dense(), p.solve().dense(), rtol=1e-9, atol=1e-10
    )


@SETTINGS
@given(shapes, shapes)
def test_composition_is_one_solve_after_the_other(
    first: tuple[int, int, float, int, bool], second: tuple[int, int, float, int, bool]
) -> None:
    one, two = problem(*first).solve(), problem(*second).solve()
    w = states(9, 5).T
    after_one = w + w @ one.dense()
    torch.testing.assert_close(w @ one.compose(two).matrix(), after_one + after_one @ two.dense(), rtol=1e-9, atol=1e-9)


@SETTINGS
@given(st.integers(1, 20), st.floats(0.05, 5), st.integers(0, 10_000), st.integers(6, 11))
def test_the_null_space_edit_is_the_published_one(pairs: int, ridge: float, seed: int, inside: int) -> None:
    """SPEED (arXiv 2503.07392).

    Delta = W (S_at - S_tt) P [I - M N (N^T P M N + gamma I)^-1 N^T P] M with M = (S_tt P + beta I)^-1.
    """
    basis = torch.linalg.qr(states(inside, seed + 5)).Q
    invariants = Invariants(states(3, seed + 6), 0.3)
    p = problem(pairs, 0, ridge, seed, subspace=basis, invariants=invariants)
    k, a, w = p.pairs.source, p.pairs.anchor, p.pairs.weight
    s_tt, s_at, proj, eye = (k * w) @ k.T, (a * w) @ k.T, basis @ basis.T, torch.eye(D, dtype=torch.float64)
    m, n = torch.inverse(s_tt @ proj + ridge * eye), invariants.states
    inner = (
        eye
        - m @ n @ torch.inverse(n.T @ proj @ m @ n + invariants.gamma * torch.eye(3, dtype=torch.float64)) @ n.T @ proj
    )
    torch.testing.assert_close(p.solve().dense(), (s_at - s_tt) @ proj @ inner @ m, rtol=1e-9, atol=1e-9)


@SETTINGS
@given(st.integers(1, 20), st.floats(0.05, 5), st.integers(0, 10_000))
def test_soft_invariants_are_preserved_with_the_inverse_weight(pairs: int, gamma: float, seed: int) -> None:
    basis = torch.linalg.qr(states(8, seed + 5)).Q
    n = states(2, seed + 6)
    p = problem(pairs, 0, 0.7, seed, subspace=basis, invariants=Invariants(n, gamma))
    same = Problem(p.pairs, Preserve(n, torch.full((2,), 1 / gamma, dtype=torch.float64)), 0.7, basis)
    torch.testing.assert_close(p.solve().dense(), same.solve().dense(), rtol=1e-8, atol=1e-9)


def test_invariants_and_states_outside_the_subspace_do_not_move() -> None:
    basis = torch.linalg.qr(states(9, 1)).Q
    outside = states(1, 2) - basis @ (basis.T @ states(1, 2))
    invariant = states(2, 3)
    edit = problem(5, 0, 0.5, 4, subspace=basis, invariants=Invariants(invariant)).solve()
    assert float((edit.dense() @ invariant).norm()) < 1e-12
    assert float((edit.dense() @ outside).norm()) < 1e-12
    assert float(edit.dense().norm()) > 0.1


def test_without_a_ridge_pairs_are_met_exactly() -> None:
    p = problem(4, 3, 0.0, 0)
    e = p.solve().dense()
    torch.testing.assert_close(p.pairs.source + e @ p.pairs.source, p.pairs.anchor, rtol=1e-9, atol=1e-9)
    assert float((e @ p.preserve.columns(D)[0]).norm()) < 1e-9


def test_more_concepts_than_dimensions_is_least_squares() -> None:
    p = problem(50, 0, 0.0, 0)
    e = p.solve().dense()
    best = torch.linalg.lstsq(
        (p.pairs.source * p.pairs.weight.sqrt()).T, ((p.pairs.anchor - p.pairs.source) * p.pairs.weight.sqrt()).T
    )
    torch.testing.assert_close(e, best.solution.T, rtol=1e-8, atol=1e-8)


def test_linearly_dependent_pairs_are_named() -> None:
    k = states(3, 0)
    k[:, 2] = k[:, 0]
    pairs = Pairs(k, states(3, 1), torch.ones(3), ("cat", "dog", "kitty"))
    with pytest.raises(EffaceError, match="'cat', 'kitty' depend on each other"):
        Problem(pairs, ridge=0.0).solve()


def test_a_singular_gram_without_a_ridge_is_refused() -> None:
    r = states(3, 0)
    with pytest.raises(EffaceError, match="leave directions of the 12 without weight; set ridge"):
        Problem(Pairs(states(2, 1), states(2, 2), torch.ones(2)), Preserve(gram=r @ r.T), 0.0).solve()


def test_a_problem_without_pairs_is_refused() -> None:
    with pytest.raises(EffaceError, match="nothing to erase"):
        Problem(Pairs(states(0, 0), states(0, 0), torch.ones(0))).solve()


def test_a_low_rank_edit_of_many_columns_is_compacted() -> None:
    edit = problem(50, 0, 0.5, 0).solve()
    small = edit.compact()
    assert (edit.rank, small.rank) == (50, D)
    torch.testing.assert_close(small.dense(), edit.dense(), rtol=1e-12, atol=1e-12)
    assert LowRankUpdate.from_dense(torch.zeros(D, D)).rank == 0
    rows = states(7, 8).T
    torch.testing.assert_close(edit(rows), rows @ edit.matrix().T, rtol=1e-12, atol=1e-12)
