"""LEACE on vectors: the statements of its theorem, on generated data."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from helpers.labelled_vectors import DOUBLE, above_majority, max_cross_covariance, vectors_with_labels
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.core.errors import EffaceError
from efface.ops.linear_erasure import LeaceEraser
from efface.ops.linear_erasure.probe import Probe

seeds = st.integers(0, 2**31)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 5), st.sampled_from(["leace", "orth"]), st.booleans())
def test_leace_leaves_no_covariance_and_no_classifier(seed: int, classes: int, method: str, shrink: bool) -> None:
    x, y = vectors_with_labels(seed, classes)
    eraser = LeaceEraser(method, shrinkage=shrink)
    erased = eraser.fit_transform(x, y)
    assert max_cross_covariance(x, y, classes) > 1e-3
    assert max_cross_covariance(erased, y, classes) < 1e-10
    assert above_majority(x, y) > 0.1
    most, next_most = y.bincount().topk(2).values.tolist()
    if most > next_most:  # between classes of equal size rounding decides which is predicted
        assert above_majority(erased, y) < 0.01
    shares = y.bincount() / len(y)
    assert Probe.fit(erased, y, classes, ridge=1e-6).loss(erased, y) > float(-(shares * shares.log()).sum()) - 1e-6, (
        "no classifier beats the class shares"
    )
    assert eraser.rank <= classes - 1
    again = eraser.transform(erased)
    assert torch.allclose(again, erased, atol=1e-9), "a projection"
    assert torch.allclose(x @ eraser.matrix.T + eraser.bias, erased, atol=1e-9)
    assert torch.allclose(erased.mean(0), x.mean(0), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 4))
def test_no_square_root_is_needed(seed: int, classes: int) -> None:
    """Against the paper's form with the symmetric root of S."""
    x, y = vectors_with_labels(seed, classes)
    z = torch.nn.functional.one_hot(y, classes).to(DOUBLE)
    S, Sxz = x.T.cov(correction=0), (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)
    values, vectors = torch.linalg.eigh(S)
    W, back = (vectors / values.sqrt()) @ vectors.T, (vectors * values.sqrt()) @ vectors.T
    U, s, _ = torch.linalg.svd(W @ Sxz, full_matrices=False)
    U = U[:, s > 1e-8 * s[0]]
    matrix = torch.eye(len(S), dtype=DOUBLE) - back @ U @ U.T @ W
    assert torch.allclose(LeaceEraser().fit(x, y).matrix, matrix, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_leace_changes_least(seed: int) -> None:
    """In the whitened and the Euclidean norm, as the theorem says for every norm."""
    x, y = vectors_with_labels(seed, 3)
    centred = x - x.mean(0)
    whiten = torch.linalg.inv(torch.linalg.cholesky(x.T.cov(correction=0)))
    for norm in (whiten, torch.eye(x.shape[1], dtype=DOUBLE)):
        moved = {
            m: float(((LeaceEraser(m).fit_transform(x, y) - x) @ norm.T).square().sum()) for m in ("leace", "orth")
        }
        assert moved["leace"] <= moved["orth"] * (1 + 1e-9)
        eraser = LeaceEraser().fit(x, y)
        left, right, _ = eraser.fitted()
        noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
        noise = left @ noise @ (torch.eye(x.shape[1], dtype=DOUBLE) - left @ torch.linalg.pinv(left))
        rival = centred @ (noise - left @ right).T
        assert moved["leace"] <= float((rival @ norm.T).square().sum()) * (1 + 1e-9), (
            "any other map with the same guarantee"
        )


@settings(max_examples=25, deadline=None)
@given(seeds, st.lists(st.integers(1, 399), max_size=4))
def test_streaming_equals_batch(seed: int, cuts: list[int]) -> None:
    x, y = vectors_with_labels(seed, 3)
    batch, stream = LeaceEraser(shrinkage=True).fit(x, y), LeaceEraser(shrinkage=True)
    edges = [0, *sorted(set(cuts)), len(x)]
    for start, end in pairwise(edges):
        stream.partial_fit(x[start:end], y[start:end], classes=[0, 1, 2])
    assert torch.allclose(stream.matrix, batch.matrix, atol=1e-9)
    assert torch.allclose(stream.bias, batch.bias, atol=1e-8)


def test_a_rare_class_is_erased() -> None:
    """One in 40,000, beside a common one: an absolute tolerance of 0.01 would return the identity."""
    x, _ = vectors_with_labels(0, n=40_000, gap=0.0)
    y = torch.zeros(len(x), dtype=torch.long)
    y[:20_000], y[-1] = 1, 2
    x[-1] += 8.0
    eraser = LeaceEraser().fit(x, y)
    assert eraser.rank == 2
    rare = (y == 2).long()
    assert LeaceEraser().fit(x, rare).rank == 1
    left = LeaceEraser().fit(x, rare).transform(x)
    assert torch.allclose(left[-1], left[:-1].mean(0), atol=1e-6), "its mean equals that of the others"


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_numbers_are_erased(seed: int) -> None:
    x, _ = vectors_with_labels(seed)
    generator = torch.Generator().manual_seed(seed)
    z = x[:, :2] @ torch.randn(2, 2, generator=generator, dtype=DOUBLE) + torch.randn(
        len(x), 2, generator=generator, dtype=DOUBLE
    )
    erased = LeaceEraser().fit_transform(x, z)
    assert float(((erased - erased.mean(0)).T @ (z - z.mean(0)) / len(x)).abs().max()) < 1e-10
    assert LeaceEraser().fit(x, z).rank == 2


def test_a_singular_covariance_stays_on_its_hyperplane() -> None:
    """The states after a layer norm lie on a hyperplane."""
    x, y = vectors_with_labels(1)
    x[:, -1] = -x[:, :-1].sum(1)
    erased = LeaceEraser().fit_transform(x, y)
    assert max_cross_covariance(erased, y, 2) < 1e-10
    assert torch.allclose(erased.sum(1), torch.zeros(len(x), dtype=DOUBLE), atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0, 1), st.sampled_from([12, 40, 400]), st.floats(0, 3))
def test_the_variance_never_grows(seed: int, shrinkage: float, n: int, spread: float) -> None:
    """Also with few vectors, much shrinkage and unequal scales: no bound on the trace is needed."""
    x, y = vectors_with_labels(seed, gap=0.3, n=n)
    x = x @ torch.diag(torch.logspace(0, spread, x.shape[1], dtype=DOUBLE))
    eraser = LeaceEraser(shrinkage=shrinkage).fit(x, y)
    S = x.T.cov(correction=0)
    assert float((eraser.matrix @ S @ eraser.matrix.T).trace()) <= float(S.trace()) * (1 + 1e-9)


def test_invalid_labels_and_columns_are_refused() -> None:
    x, y = vectors_with_labels(0, 3)
    with pytest.raises(EffaceError, match="class 3 has no samples"):
        LeaceEraser().partial_fit(x, y, classes=[0, 1, 2, 3]).transform(x)
    with pytest.raises(EffaceError, match="name all of them"):
        LeaceEraser().partial_fit(x, y)
    with pytest.raises(EffaceError, match="none of the classes"):
        LeaceEraser().partial_fit(x, y, classes=[0, 1])
    with pytest.raises(EffaceError, match="column 1 of z is the same"):
        LeaceEraser().fit(x, torch.stack([y.double(), torch.full((len(y),), 0.1)], 1))
    with pytest.raises(EffaceError, match="give the same number"):
        LeaceEraser().partial_fit(x, torch.randn(len(x), 2)).partial_fit(x, torch.randn(len(x), 3))
