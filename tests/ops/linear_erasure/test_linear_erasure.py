"""Linear erasers on vectors: what the theorems say, on data that hypothesis makes up."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from efface.core.errors import EffaceError
from efface.ops.linear_erasure import InlpEraser, LeaceEraser, RlaceEraser
from efface.ops.linear_erasure.base import LinearEraser
from efface.ops.linear_erasure.fantope import FantopePoint, threshold
from efface.ops.linear_erasure.probe import Probe, majority

DOUBLE = torch.float64
seeds = st.integers(0, 2**31)


def data(seed: int, classes: int = 2, n: int = 400, width: int = 8, gap: float = 3.0) -> tuple[Tensor, Tensor]:
    """Correlated vectors whose means differ by class; every class is there."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=generator)
    y[:classes] = torch.arange(classes)
    mix = torch.eye(width, dtype=DOUBLE) + 0.5 * torch.randn(width, width, generator=generator, dtype=DOUBLE)
    means = gap * torch.randn(classes, width, generator=generator, dtype=DOUBLE)
    return torch.randn(n, width, generator=generator, dtype=DOUBLE) @ mix + means[y] + 5.0, y


def cross(x: Tensor, y: Tensor, classes: int) -> float:
    """Largest correlation-like entry of cov(x, one-hot), over the deviations of both."""
    z = torch.nn.functional.one_hot(y, classes).to(DOUBLE)
    x, z = x - x.mean(0), z - z.mean(0)
    return float((x.T @ z / len(x)).abs().max())


def above_majority(x: Tensor, y: Tensor) -> float:
    classes = int(y.max()) + 1
    return Probe.fit(x, y, classes, ridge=1e-6).accuracy(x, y) - majority(y)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 5), st.sampled_from(["leace", "orth"]), st.booleans())
def test_leace_leaves_no_covariance_and_no_classifier(seed: int, classes: int, method: str, shrink: bool) -> None:
    x, y = data(seed, classes)
    eraser = LeaceEraser(method, shrinkage=shrink)
    erased = eraser.fit_transform(x, y)
    assert cross(x, y, classes) > 1e-3
    assert cross(erased, y, classes) < 1e-10
    assert above_majority(x, y) > 0.1
    most, next_most = y.bincount().topk(2).values.tolist()
    if most > next_most:  # between classes of the same size rounding decides which is said
        assert above_majority(erased, y) < 0.01
    shares = y.bincount() / len(y)
    assert Probe.fit(erased, y, classes, ridge=1e-6).loss(erased, y) > float(-(shares * shares.log()).sum()) - 1e-6, (
        "the theorem's words"
    )
    assert eraser.rank <= classes - 1
    again = eraser.transform(erased)
    assert torch.allclose(again, erased, atol=1e-9), "a projection"
    assert torch.allclose(x @ eraser.matrix.T + eraser.bias, erased, atol=1e-9)
    assert torch.allclose(erased.mean(0), x.mean(0), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 4))
def test_no_square_root_is_needed(seed: int, classes: int) -> None:
    """The form with the symmetric root of S, as the paper writes it."""
    x, y = data(seed, classes)
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
    """In the whitened norm and, as the theorem says, in every other: here the plain one."""
    x, y = data(seed, 3)
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
    x, y = data(seed, 3)
    whole, stream = LeaceEraser(shrinkage=True).fit(x, y), LeaceEraser(shrinkage=True)
    edges = [0, *sorted(set(cuts)), len(x)]
    for start, end in pairwise(edges):
        stream.partial_fit(x[start:end], y[start:end], classes=[0, 1, 2])
    assert torch.allclose(stream.matrix, whole.matrix, atol=1e-9)
    assert torch.allclose(stream.bias, whole.bias, atol=1e-8)


def test_a_rare_class_is_erased() -> None:
    """One in 40,000, beside a common one: an absolute tolerance of 0.01 would return the identity."""
    x, _ = data(0, n=40_000, gap=0.0)
    y = torch.zeros(len(x), dtype=torch.long)
    y[:20_000], y[-1] = 1, 2
    x[-1] += 8.0
    eraser = LeaceEraser().fit(x, y)
    assert eraser.rank == 2
    rare = (y == 2).long()
    assert LeaceEraser().fit(x, rare).rank == 1
    left = LeaceEraser().fit(x, rare).transform(x)
    assert torch.allclose(left[-1], left[:-1].mean(0), atol=1e-6), "its mean is that of the others"


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_numbers_are_erased_as_well(seed: int) -> None:
    x, _ = data(seed)
    generator = torch.Generator().manual_seed(seed)
    z = x[:, :2] @ torch.randn(2, 2, generator=generator, dtype=DOUBLE) + torch.randn(
        len(x), 2, generator=generator, dtype=DOUBLE
    )
    erased = LeaceEraser().fit_transform(x, z)
    assert float(((erased - erased.mean(0)).T @ (z - z.mean(0)) / len(x)).abs().max()) < 1e-10
    assert LeaceEraser().fit(x, z).rank == 2


def test_a_singular_covariance_stays_on_its_plane() -> None:
    """As after a layer norm."""
    x, y = data(1)
    x[:, -1] = -x[:, :-1].sum(1)
    erased = LeaceEraser().fit_transform(x, y)
    assert cross(erased, y, 2) < 1e-10
    assert torch.allclose(erased.sum(1), torch.zeros(len(x), dtype=DOUBLE), atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0, 1), st.sampled_from([12, 40, 400]), st.floats(0, 3))
def test_the_variance_never_grows(seed: int, shrinkage: float, n: int, spread: float) -> None:
    """Also with few vectors, much shrinkage and unequal scales: no bound on the trace is needed."""
    x, y = data(seed, gap=0.3, n=n)
    x = x @ torch.diag(torch.logspace(0, spread, x.shape[1], dtype=DOUBLE))
    eraser = LeaceEraser(shrinkage=shrinkage).fit(x, y)
    S = x.T.cov(correction=0)
    assert float((eraser.matrix @ S @ eraser.matrix.T).trace()) <= float(S.trace()) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_inlp_ends_at_the_majority(seed: int) -> None:
    x, y = data(seed, 2 + seed % 2, n=1500, width=16)
    eraser = InlpEraser(16, seed=seed)
    erased = eraser.fit_transform(x, y)
    assert above_majority(x, y) > 0.2
    assert above_majority(erased, y) < 0.06
    assert eraser.accuracies[-1] <= eraser.majority + 0.01
    assert torch.equal(InlpEraser(16, seed=seed).fit_transform(x, y), erased), "the same every time"
    assert torch.allclose(eraser.transform(erased), erased, atol=1e-10)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_rlace_ends_near_the_majority(warm: bool, classes: int) -> None:
    x, y = data(7, classes, n=1000)
    eraser = RlaceEraser(classes - 1, steps=4000, check=500, warm_start=warm, affine=True, seed=1)
    erased = eraser.fit_transform(x, y)
    assert eraser.rank == classes - 1
    assert above_majority(x, y) > 0.2
    assert above_majority(erased, y) < 0.06
    again = RlaceEraser(classes - 1, steps=4000, check=500, warm_start=warm, affine=True, seed=1)
    assert torch.equal(again.fit_transform(x, y), erased), "the same every time"


def test_a_warm_start_with_all_directions_is_over_at_once() -> None:
    x, y = data(2, 3)
    seen: list[int] = []
    RlaceEraser(2, warm_start=True, affine=True, progress=lambda step, _: seen.append(step)).fit(x, y)
    assert seen == [0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12), st.data())
def test_the_fantopes_threshold_is_exact(values: list[float], more: Any) -> None:
    k = more.draw(st.integers(1, len(values)))
    numbers = torch.tensor(values, dtype=DOUBLE)
    tau = threshold(numbers, k)
    assert abs(float((numbers - tau).clamp(0, 1).sum()) - k) < 1e-9


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 4), st.integers(1, 2))
def test_a_step_on_few_directions_is_the_step_on_all(seed: int, k: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    eye, width = torch.eye(10, dtype=DOUBLE), 10
    start, _ = torch.linalg.qr(torch.randn(width, k, generator=generator, dtype=DOUBLE))
    point = FantopePoint(start, torch.ones(k, dtype=DOUBLE))
    for _ in range(4):
        a, b = (0.3 * torch.randn(width, columns, generator=generator, dtype=DOUBLE) for _ in range(2))
        dense = FantopePoint.of(point.times(eye) + (a @ b.T + b @ a.T) / 2, k)
        point = point.moved(a, b, k)
        assert torch.allclose(point.times(eye), dense.times(eye), atol=1e-9)
        assert abs(float(point.times(eye).trace()) - k) < 1e-9


ERASERS: list[Callable[[], LinearEraser]] = [LeaceEraser, InlpEraser, lambda: RlaceEraser(1, steps=20, check=20)]


@pytest.mark.parametrize("make", ERASERS)
def test_the_kind_that_goes_in_comes_out(make: Callable[[], LinearEraser]) -> None:
    x, y = data(0)
    for given_ in (x.float(), x, x.numpy(), x.numpy().astype(np.float32)):
        labels: Any = y if isinstance(given_, Tensor) else y.numpy()
        erased = make().fit_transform(given_, labels)
        assert type(erased) is type(given_)
        assert erased.dtype == given_.dtype
        assert erased.shape == given_.shape


WRONG: dict[str, tuple[Any, Any]] = {
    "one class only": (torch.randn(9, 3), torch.zeros(9, dtype=torch.long)),
    "X has 9 rows and z has 8": (torch.randn(9, 3), torch.arange(8) % 2),
    "NaN": (torch.full((9, 3), torch.nan), torch.arange(9) % 2),
    r"vectors \(N, D\)": (torch.randn(9), torch.arange(9) % 2),
}


@pytest.mark.parametrize("make", ERASERS)
@pytest.mark.parametrize("said", WRONG)
def test_bad_input_is_one_line(make: Callable[[], LinearEraser], said: str) -> None:
    with pytest.raises(EffaceError, match=said) as caught:
        make().fit(*WRONG[said])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", ERASERS)
def test_transform_wants_a_fit_and_its_width(make: Callable[[], LinearEraser]) -> None:
    x, y = data(0)
    with pytest.raises(EffaceError, match="has not been fitted"):
        make().transform(x)
    with pytest.raises(EffaceError, match="7 wide and the eraser was fitted on 8"):
        make().fit(x, y).transform(x[:, :7])


def test_what_only_leace_says() -> None:
    x, y = data(0, 3)
    with pytest.raises(EffaceError, match="class 3 has no samples"):
        LeaceEraser().partial_fit(x, y, classes=[0, 1, 2, 3]).transform(x)
    with pytest.raises(EffaceError, match="name all of them"):
        LeaceEraser().partial_fit(x, y)
    with pytest.raises(EffaceError, match="none of the classes"):
        LeaceEraser().partial_fit(x, y, classes=[0, 1])
    with pytest.raises(EffaceError, match="column 1 of z is the same"):
        LeaceEraser().fit(x, torch.stack([y.double(), torch.full((len(y),), 0.1)], 1))
    with pytest.raises(EffaceError, match="give as many"):
        LeaceEraser().partial_fit(x, torch.randn(len(x), 2)).partial_fit(x, torch.randn(len(x), 3))
    with pytest.raises(EffaceError, match="leaves nothing"):
        RlaceEraser(8).fit(x, y)
