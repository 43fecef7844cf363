"""FID, KID and the block jackknife, against closed forms, scipy and torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.core.score import DetectorId
from efface.metrics.blocks import BLOCKS, block_ids, jackknife, t_quantile
from efface.metrics.fid import FeatureStats, fid, frechet_distance
from efface.metrics.kid import Features, kid, kid_of_subsets, polynomial_kernel, squared_mmd

NET = DetectorId("judge-features", "1")


def gaussian(n: int, seed: int, mean: float = 0.0, scale: float = 1.0, d: int = 6) -> torch.Tensor:
    return mean + scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def fed(kind: type, features: torch.Tensor, prompts: list[str] | None = None, batch: int = 300):
    stream = kind()
    for start in range(0, len(features), batch):
        stream.update(features[start : start + batch], prompts[start : start + batch] if prompts else None)
    return stream


def positive(d: int, seed: int) -> torch.Tensor:
    a = gaussian(d, seed, d=d).double()
    return a @ a.T


def test_frechet_distance_of_known_gaussians():
    zero, one = torch.zeros(3), torch.ones(3)
    eye = torch.eye(3)
    assert frechet_distance(zero, eye, one, eye) == pytest.approx(3)
    assert frechet_distance(zero, eye, zero, 9 * eye) == pytest.approx(3 * (3 - 1) ** 2)
    a, b = torch.diag(torch.tensor([1.0, 4.0, 0.0])), torch.diag(torch.tensor([9.0, 4.0, 1.0]))
    assert frechet_distance(zero, a, 2 * one, b) == pytest.approx(12 + 4 + 0 + 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.integers(0, 1000))
def test_frechet_distance_is_symmetric_turns_with_its_arguments_and_is_nought_at_itself(d, seed):
    a, b, m = positive(d, seed), positive(d, seed + 1), gaussian(2, seed + 2, d=d)
    turn = torch.linalg.qr(gaussian(d, seed + 3, d=d).double()).Q
    there = frechet_distance(m[0], a, m[1], b)
    assert there == pytest.approx(frechet_distance(m[1], b, m[0], a), rel=1e-6, abs=1e-6)
    turned = frechet_distance(turn @ m[0].double(), turn @ a @ turn.T, turn @ m[1].double(), turn @ b @ turn.T)
    assert there == pytest.approx(turned, rel=1e-6, abs=1e-6)
    assert frechet_distance(m[0], a, m[0], a) == pytest.approx(0, abs=1e-5)


def test_frechet_distance_agrees_with_the_matrix_square_root():
    linalg = pytest.importorskip("scipy.linalg")
    a, b = positive(12, 0), positive(12, 1)
    trace = np.trace(linalg.sqrtm((a @ b).numpy())).real
    expected = float(a.trace() + b.trace()) - 2 * trace
    assert frechet_distance(torch.zeros(12), a, torch.zeros(12), b) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.booleans())
def test_streamed_moments_are_those_of_the_whole(sizes, by_prompt):
    features = gaussian(sum(sizes), 1, mean=1000.0)
    stats, start = FeatureStats(), 0
    for size in sizes:
        part = features[start : start + size]
        stats.update(part, [f"p{i % 5}" for i in range(size)] if by_prompt else None)
        start += size
    moments = stats.moments()
    assert moments is not None
    assert (stats.n, moments.n) == (len(features), len(features))
    assert moments.mean.numpy() == pytest.approx(features.double().mean(0).numpy())
    if len(features) > 1:
        assert moments.covariance.numpy() == pytest.approx(features.double().T.cov().numpy(), rel=1e-6, abs=1e-9)


def test_fid_of_two_samples(how):
    reference = fed(FeatureStats, gaussian(4000, 1))
    same = fid(reference, fed(FeatureStats, gaussian(3000, 2)), "other", detector=NET, provenance=how)
    far = fid(reference, fed(FeatureStats, gaussian(3000, 3, 1.0, 2.0)), "other", detector=NET, provenance=how)
    assert same.value is not None
    assert 0 <= same.value < 0.05
    assert far.value == pytest.approx(6 * (1 + 1), rel=0.05)
    assert far.low is not None
    assert far.high is not None
    assert far.low < 12 < far.high
    assert far.high - far.low < 2
    assert (far.metric, far.group, far.n, far.detector, far.provenance.extra["reference_n"]) == ("fid", "other", 3000, NET, 4000)
    itself = fid(reference, reference, "other", detector=NET, provenance=how)
    assert itself.value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("n", "m"), [(1999, 2000), (2000, 1999), (0, 2000), (1, 1)])
def test_a_small_fid_is_not_quoted(n, m, how):
    stats = [fed(FeatureStats, gaussian(k, 1)) for k in (n, m)]
    score = fid(*stats, "other", detector=NET, provenance=how)
    assert (score.value, score.low, score.n) == (None, None, m)
    assert "2000" in score.provenance.extra["refused"]
    assert fid(*stats, "other", detector=NET, provenance=how, least=0).value is None or min(n, m) >= 2


def test_fid_of_a_destroyed_model_is_far_off_and_broken_features_are_refused(judge, how):
    from efface.worlds import draw_scene, load_world

    rng, scenes = np.random.default_rng(0), load_world().scenes(heldout=False)
    drawn = np.stack([draw_scene(scenes[int(rng.integers(len(scenes)))], rng) for _ in range(400)])
    images = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
    one, other, noise = (judge.features(each) for each in (images[:200], images[200:], torch.rand(200, 3, 64, 64)))
    sets = [fed(FeatureStats, each) for each in (one, other, noise)]
    near, far = (fid(sets[0], each, "other", detector=NET, provenance=how, least=100).value for each in sets[1:])
    assert near is not None
    assert far is not None
    assert far > 5 * near
    stores = [fed(Features, each) for each in (one, other, noise)]
    alike, apart = (kid(stores[0], each, "other", rng=rng, detector=NET, provenance=how, subsets=0) for each in stores[1:])
    assert alike.low is not None
    assert alike.high is not None
    assert alike.low < 0 < alike.high
    assert apart.low is not None
    assert apart.low > alike.high
    for stream in (FeatureStats(), Features()):
        with pytest.raises(ValueError, match="not finite"):
            stream.update(torch.full((3, 4), math.nan))
        stream.update(torch.zeros(2, 4))
        for wrong in (torch.zeros(2, 5), torch.zeros(4)):
            with pytest.raises(ValueError, match="features must be"):
                stream.update(wrong)
        with pytest.raises(ValueError, match="prompts for 2"):
            stream.update(torch.zeros(2, 4), ["one"])
        assert stream.n == 2


def test_kid_of_a_worked_example():
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0], [2.0, 0.0]])
    xx, yy, xy = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    assert (float(xx[0, 0]), float(xx[0, 1]), float(xy[0, 2])) == (1.5**3, 1.0, 8.0)
    expected = (xx[0, 1] + xx[1, 0]) / 2 + (yy.sum() - yy.trace()) / 6 - 2 * xy.mean()
    assert squared_mmd(x, y) == pytest.approx(float(expected))


def test_kid_is_unbiased(rng):
    """Over samples of one distribution it is nought on average, however small they are; the biased one is far from it."""
    values = np.array([squared_mmd(gaussian(8, 2 * i), gaussian(11, 2 * i + 1)) for i in range(600)])
    assert abs(values.mean()) < 4 * values.std() / 600**0.5
    biased = np.array([float(polynomial_kernel(x, x).mean()) for x in (gaussian(8, i) for i in range(100))])
    unbiased = 1.0 + 3 * 1 / 6  # E k(x, x') for independent unit Gaussians: E (u + 1)^3 with E u^2 = 1 / d
    assert biased.mean() - unbiased > 10 * values.std() / 600**0.5
    paired = np.array(
        [squared_mmd(x, x + gaussian(8, 5000 + i, scale=0.0), paired=True) for i, x in ((i, gaussian(8, i)) for i in range(5))]
    )
    assert paired == pytest.approx(0, abs=1e-12)


def test_paired_kid_does_not_count_likeness_of_twins():
    """Twins are marginally alike: unpaired, their likeness makes the statistic negative on average; paired it is nought."""
    plain, twins = [], []
    for i in range(400):
        x = gaussian(8, i)
        y = 0.8 * x + 0.6 * gaussian(8, 10_000 + i)
        plain.append(squared_mmd(x, y))
        twins.append(squared_mmd(x, y, paired=True))
    assert np.mean(plain) < -4 * np.std(plain) / 20
    assert abs(np.mean(twins)) < 4 * np.std(twins) / 20


def test_kid_scores_and_their_interval(rng, how):
    prompts = [f"prompt {i % 60}" for i in range(600)]
    one, same, other = (fed(Features, gaussian(600, 10 + i, mean), prompts) for i, mean in enumerate((0.0, 0.0, 0.5)))
    score = kid(one, other, "other", rng=rng, detector=NET, provenance=how, subsets=20, size=200)
    assert score.value == pytest.approx(squared_mmd(one.values, other.values))
    truth = (1 + 1 * 3 / 6) * 0 + _expected(0.5)
    assert score.low is not None
    assert score.high is not None
    assert score.low < truth < score.high
    extra = score.provenance.extra
    assert (extra["subset_size"], extra["subsets"], extra["reference_n"]) == (200, 20, 600)
    assert extra["subset_mean"] == pytest.approx(score.value, abs=3 * extra["subset_std"] / 20**0.5 + 0.02)
    null = kid(one, same, "other", rng=rng, detector=NET, provenance=how, subsets=0)
    assert null.low is not None
    assert null.high is not None
    assert null.low < 0 < null.high < score.low
    itself = kid(one, one, "other", rng=rng, detector=NET, provenance=how, paired=True)
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


def test_no_pictures_no_kid(rng, how):
    some = fed(Features, gaussian(5, 0))
    for a, b in [(Features(), Features()), (some, Features()), (Features(), some), (some, fed(Features, gaussian(1, 0)))]:
        score = kid(a, b, "other", rng=rng, detector=NET, provenance=how)
        assert (score.value, score.low, score.high, score.n) == (None, None, None, b.n)
    with pytest.raises(ValueError, match="paired"):
        squared_mmd(gaussian(4, 0), gaussian(5, 0), paired=True)
    with pytest.raises(ValueError, match="subsets of 6"):
        kid_of_subsets(gaussian(5, 0), gaussian(9, 0), rng=rng, size=6)


def test_the_jackknife_of_a_mean_is_the_t_interval(rng):
    values = rng.normal(size=BLOCKS)
    bounds = jackknife(values.mean(), [np.delete(values, i).mean() for i in range(BLOCKS)])
    half = 2.13145 * values.std(ddof=1) / BLOCKS**0.5
    assert bounds == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-4)
    assert jackknife(1.0, [1.0]) is None
    for freedom, t in {1: 12.7062, 2: 4.30265, 3: 3.18245, 5: 2.57058, 15: 2.13145}.items():
        assert t_quantile(0.975, freedom) == pytest.approx(t, rel=5e-3)


def test_the_jackknife_covers():
    """KID of sets that differ: the interval holds the truth about as often as it says."""
    truth, covered = _expected(0.5), 0
    for i in range(100):
        one, other = fed(Features, gaussian(160, 2 * i)), fed(Features, gaussian(160, 2 * i + 1, 0.5))
        score = kid(one, other, "other", rng=np.random.default_rng(0), detector=NET, provenance=_how(), subsets=0)
        assert score.low is not None
        assert score.high is not None
        covered += score.low <= truth <= score.high
    assert covered >= 88


def _how():
    from efface.core.score import Provenance

    return Provenance()


def test_blocks_hold_whole_prompts_and_go_round_without():
    ids = block_ids(60, [f"p{i % 7}" for i in range(60)], 0)
    assert all(len(set(ids[i::7].tolist())) == 1 for i in range(7))
    assert torch.equal(block_ids(60, [f"p{i % 7}" for i in range(60)], 31), ids)
    assert torch.cat([block_ids(10, None, 0), block_ids(10, None, 10)]).tolist() == [i % BLOCKS for i in range(20)]


class _Flat(torch.nn.Module):
    num_features = 6

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float()


def test_torchmetrics_agrees(rng):
    image = pytest.importorskip("torchmetrics.image")
    x, y = gaussian(300, 1), gaussian(200, 2, 0.4, 1.3)
    try:
        theirs = image.FrechetInceptionDistance(feature=_Flat(), normalize=True, input_img_size=(1, 1, 6))
        kernel = image.KernelInceptionDistance(feature=_Flat(), normalize=True, subsets=1, subset_size=200)
    except (ModuleNotFoundError, TypeError, AttributeError) as error:
        pytest.skip(f"this torchmetrics takes no features of one's own: {error}")
    for metric in (theirs, kernel):
        metric.update(x[:, None, None], real=True)
        metric.update(y[:, None, None], real=False)
    stats = [fed(FeatureStats, each).moments() for each in (x, y)]
    assert stats[0] is not None
    assert stats[1] is not None
    ours = frechet_distance(stats[0].mean, stats[0].covariance, stats[1].mean, stats[1].covariance)
    assert float(theirs.compute()) == pytest.approx(ours, rel=1e-4)
    mean, _ = kid_of_subsets(x[:200], y, rng=rng, subsets=1, size=200)
    metric = image.KernelInceptionDistance(feature=_Flat(), normalize=True, subsets=1, subset_size=200)
    metric.update(x[:200][:, None, None], real=True)
    metric.update(y[:, None, None], real=False)
    assert float(metric.compute()[0]) == pytest.approx(mean, rel=1e-4)
