"""KID and the block jackknife, against closed forms and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from samples import NET, Flat, accumulated, gaussian
from torchmetrics.image.kid import KernelInceptionDistance

from efface.metrics.jackknife import NUM_BLOCKS, block_ids, jackknife
from efface.metrics.kid import FeatureStream, kid, kid_of_subsets, polynomial_kernel, squared_mmd


def test_kid_of_a_worked_example():
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0], [2.0, 0.0]])
    xx, yy, xy = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    assert (float(xx[0, 0]), float(xx[0, 1]), float(xy[0, 2])) == (1.5**3, 1.0, 8.0)
    expected = (xx[0, 1] + xx[1, 0]) / 2 + (yy.sum() - yy.trace()) / 6 - 2 * xy.mean()
    assert squared_mmd(x, y) == pytest.approx(float(expected))


def test_kid_is_unbiased(rng):
    """Over samples of one distribution the mean is 0 for small samples too; the biased statistic is far from it."""
    values = np.array([squared_mmd(gaussian(8, 2 * i), gaussian(11, 2 * i + 1)) for i in range(600)])
    assert abs(values.mean()) < 4 * values.std() / 600**0.5
    biased = np.array([float(polynomial_kernel(x, x).mean()) for x in (gaussian(8, i) for i in range(100))])
    unbiased = 1.0 + 3 * 1 / 6  # E k(x, x') for independent unit Gaussians: E (u + 1)^3 with E u^2 = 1 / d
    assert biased.mean() - unbiased > 10 * values.std() / 600**0.5
    paired = np.array(
        [
            squared_mmd(x, x + gaussian(8, 5000 + i, scale=0.0), paired=True)
            for i, x in ((i, gaussian(8, i)) for i in range(5))
        ]
    )
    assert paired == pytest.approx(0, abs=1e-12)


def test_paired_kid_ignores_the_similarity_of_pairs():
    """With equal marginals the unpaired statistic is negative on average for correlated sets; the paired one is not."""
    unpaired, paired = [], []
    for i in range(400):
        x = gaussian(8, i)
        y = 0.8 * x + 0.6 * gaussian(8, 10_000 + i)
        unpaired.append(squared_mmd(x, y))
        paired.append(squared_mmd(x, y, paired=True))
    assert np.mean(unpaired) < -4 * np.std(unpaired) / 20
    assert abs(np.mean(paired)) < 4 * np.std(paired) / 20


def test_kid_scores_and_their_interval(rng, provenance):
    prompts = [f"prompt {i % 60}" for i in range(600)]
    one, same, other = (
        accumulated(FeatureStream, gaussian(600, 10 + i, mean), prompts) for i, mean in enumerate((0.0, 0.0, 0.5))
    )
    score = kid(one, other, "other", rng=rng, detector=NET, provenance=provenance, subsets=20, size=200)
    assert score.value == pytest.approx(squared_mmd(one.values, other.values))
    truth = _expected(0.5)
    assert score.low is not None
    assert score.high is not None
    assert score.low < truth < score.high
    extra = score.provenance.extra
    assert (extra["subset_size"], extra["subsets"], extra["reference_n"]) == (200, 20, 600)
    assert extra["subset_mean"] == pytest.approx(score.value, abs=3 * extra["subset_std"] / 20**0.5 + 0.02)
    null = kid(one, same, "other", rng=rng, detector=NET, provenance=provenance, subsets=0)
    assert null.low is not None
    assert null.high is not None
    assert null.low < 0 < null.high < score.low
    itself = kid(one, one, "other", rng=rng, detector=NET, provenance=provenance, paired=True)
    assert itself.value == pytest.approx(0, abs=1e-12)


def _expected(mean: float, d: int = 6) -> float:
    """The squared MMD of N(0, 1) and N(mean, 1) in d dimensions: E (u + 1)^3 with u = x.y / d, term by term."""

    def third(m1: float, m2: float) -> float:
        """E (u + 1)^3 where x has mean m1 and y has mean m2 in every coordinate, both with unit variance."""
        e1 = m1 * m2
        v = ((1 + m1**2) * (1 + m2**2) - e1**2) / d  # variance of u
        single = (m1**3 + 3 * m1) * (m2**3 + 3 * m2)  # E (x y)^3 of one coordinate
        p2, p1 = (1 + m1**2) * (1 + m2**2), e1
        skew = (single - 3 * p2 * p1 + 2 * p1**3) / d**2  # third central moment of u
        return skew + 3 * v * e1 + e1**3 + 3 * (v + e1**2) + 3 * e1 + 1

    return third(0, 0) + third(mean, mean) - 2 * third(0, mean)


def test_kid_without_images_has_no_value(rng, provenance):
    some = accumulated(FeatureStream, gaussian(5, 0))
    for a, b in [
        (FeatureStream(), FeatureStream()),
        (some, FeatureStream()),
        (FeatureStream(), some),
        (some, accumulated(FeatureStream, gaussian(1, 0))),
    ]:
        score = kid(a, b, "other", rng=rng, detector=NET, provenance=provenance)
        assert (score.value, score.low, score.high, score.n) == (None, None, None, b.n)
    with pytest.raises(ValueError, match="paired"):
        squared_mmd(gaussian(4, 0), gaussian(5, 0), paired=True)
    with pytest.raises(ValueError, match="subsets of 6"):
        kid_of_subsets(gaussian(5, 0), gaussian(9, 0), rng=rng, size=6)


def test_the_jackknife_interval_has_its_nominal_coverage(rng, provenance):
    """KID of sets that differ: the 95 % interval contains the true value in about 95 % of trials."""
    truth, covered = _expected(0.5), 0
    for _ in range(200):
        one, other = (accumulated(FeatureStream, torch.from_numpy(rng.normal(mean, 1, (160, 6)))) for mean in (0, 0.5))
        score = kid(one, other, "other", rng=rng, detector=NET, provenance=provenance, subsets=0)
        assert score.low is not None
        assert score.high is not None
        covered += score.low <= truth <= score.high
    assert 0.9 <= covered / 200 <= 0.99


def test_torchmetrics_agrees_on_kid(rng):
    theirs = KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=200)
    x, y = gaussian(200, 1), gaussian(200, 2, 0.4, 1.3)
    theirs.update(x[:, None, None], real=True)
    theirs.update(y[:, None, None], real=False)
    mean, deviation = kid_of_subsets(x, y, rng=rng, subsets=1, size=200)
    assert (float(theirs.compute()[0]), deviation) == (pytest.approx(mean, rel=1e-4), 0)
    assert mean == pytest.approx(squared_mmd(x, y), rel=1e-9)


def test_the_jackknife_of_a_mean_is_the_t_interval(rng):
    values = rng.normal(size=NUM_BLOCKS)
    bounds = jackknife(values.mean(), [np.delete(values, i).mean() for i in range(NUM_BLOCKS)])
    half = 2.13145 * values.std(ddof=1) / NUM_BLOCKS**0.5
    assert bounds == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-5)
    assert jackknife(1.0, [1.0]) is None


def test_blocks_hold_whole_prompts_and_alternate_without_prompts():
    ids = block_ids(60, [f"p{i % 7}" for i in range(60)], 0)
    assert all(len(set(ids[i::7].tolist())) == 1 for i in range(7))
    assert torch.equal(block_ids(60, [f"p{i % 7}" for i in range(60)], 31), ids)
    assert torch.cat([block_ids(10, None, 0), block_ids(10, None, 10)]).tolist() == [i % NUM_BLOCKS for i in range(20)]
