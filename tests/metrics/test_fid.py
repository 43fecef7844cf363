"""FID against closed forms, scipy and torchmetrics; FID and KID of noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import NET, Flat, accumulated, gaussian
from scipy import linalg
from torchmetrics.image.fid import FrechetInceptionDistance

from efface.metrics.fid import FeatureMoments, fid, frechet_distance
from efface.metrics.kid import FeatureStream, kid
from efface.pocket_world import load_world
from efface.pocket_world.scenes import draw_scene


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
def test_frechet_distance_is_symmetric_rotation_invariant_and_zero_for_equal_arguments(d, seed):
    a, b, m = positive(d, seed), positive(d, seed + 1), gaussian(2, seed + 2, d=d)
    rotation = torch.linalg.qr(gaussian(d, seed + 3, d=d).double()).Q
    distance = frechet_distance(m[0], a, m[1], b)
    assert distance == pytest.approx(frechet_distance(m[1], b, m[0], a), rel=1e-6, abs=1e-6)
    rotated = frechet_distance(
        rotation @ m[0].double(), rotation @ a @ rotation.T, rotation @ m[1].double(), rotation @ b @ rotation.T
    )
    assert distance == pytest.approx(rotated, rel=1e-6, abs=1e-6)
    assert frechet_distance(m[0], a, m[0], a) == pytest.approx(0, abs=1e-5)


def test_frechet_distance_agrees_with_the_matrix_square_root():
    a, b = positive(12, 0), positive(12, 1)
    trace = np.trace(linalg.sqrtm((a @ b).numpy())).real
    expected = float(a.trace() + b.trace()) - 2 * trace
    assert frechet_distance(torch.zeros(12), a, torch.zeros(12), b) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.booleans())
def test_streamed_moments_equal_the_moments_of_all_features(sizes, by_prompt):
    features = gaussian(sum(sizes), 1, mean=1000.0)
    stats, start = FeatureMoments(), 0
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


def test_fid_of_two_samples(provenance):
    reference = accumulated(FeatureMoments, gaussian(4000, 1))
    same = fid(reference, accumulated(FeatureMoments, gaussian(3000, 2)), "other", detector=NET, provenance=provenance)
    far = fid(
        reference,
        accumulated(FeatureMoments, gaussian(3000, 3, 1.0, 2.0)),
        "other",
        detector=NET,
        provenance=provenance,
    )
    assert same.value is not None
    assert 0 <= same.value < 0.05
    assert far.value == pytest.approx(6 * (1 + 1), rel=0.05)
    assert far.low is not None
    assert far.high is not None
    assert far.low < 12 < far.high
    assert far.high - far.low < 2
    assert (far.metric, far.group, far.n, far.detector, far.provenance.extra["reference_n"]) == (
        "fid",
        "other",
        3000,
        NET,
        4000,
    )
    itself = fid(reference, reference, "other", detector=NET, provenance=provenance)
    assert itself.value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("n", "m"), [(1999, 2000), (2000, 1999), (0, 2000), (1, 1)])
def test_fid_of_too_few_images_has_no_value(n, m, provenance):
    stats = [accumulated(FeatureMoments, gaussian(k, 1)) for k in (n, m)]
    score = fid(*stats, "other", detector=NET, provenance=provenance)
    assert (score.value, score.low, score.n) == (None, None, m)
    assert "2000" in score.provenance.extra["refused"]
    lenient = fid(*stats, "other", detector=NET, provenance=provenance, min_images=0)
    assert (lenient.value is None) == (min(n, m) < 2)


def test_fid_and_kid_of_noise_are_large_and_broken_features_are_refused(judge, provenance):
    rng, scenes = np.random.default_rng(0), load_world().scenes(heldout=False)
    drawn = np.stack([draw_scene(scenes[int(rng.integers(len(scenes)))], rng) for _ in range(400)])
    images = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
    one, other, noise = (judge.features(each) for each in (images[:200], images[200:], torch.rand(200, 3, 64, 64)))
    sets = [accumulated(FeatureMoments, each) for each in (one, other, noise)]
    near, far = (
        fid(sets[0], each, "other", detector=NET, provenance=provenance, min_images=100).value for each in sets[1:]
    )
    assert near is not None
    assert far is not None
    assert far > 5 * near
    stores = [accumulated(FeatureStream, each) for each in (one, other, noise)]
    alike, apart = (
        kid(stores[0], each, "other", rng=rng, detector=NET, provenance=provenance, subsets=0) for each in stores[1:]
    )
    assert alike.low is not None
    assert alike.high is not None
    assert alike.low < 0 < alike.high
    assert apart.low is not None
    assert apart.low > alike.high
    for stream in (FeatureMoments(), FeatureStream()):
        with pytest.raises(ValueError, match="not finite"):
            stream.update(torch.full((3, 4), math.nan))
        stream.update(torch.zeros(2, 4))
        for wrong in (torch.zeros(2, 5), torch.zeros(4)):
            with pytest.raises(ValueError, match="features must be"):
                stream.update(wrong)
        with pytest.raises(ValueError, match="prompts for 2"):
            stream.update(torch.zeros(2, 4), ["one"])
        assert stream.n == 2


def test_torchmetrics_agrees_on_fid():
    theirs = FrechetInceptionDistance(feature=Flat(), input_img_size=(1, 1, 6))
    x, y = gaussian(300, 1), gaussian(200, 2, 0.4, 1.3)
    theirs.update(x[:, None, None], real=True)
    theirs.update(y[:, None, None], real=False)
    one, other = accumulated(FeatureMoments, x).moments(), accumulated(FeatureMoments, y).moments()
    assert one is not None
    assert other is not None
    ours = frechet_distance(one.mean, one.covariance, other.mean, other.covariance)
    assert float(theirs.compute()) == pytest.approx(ours, rel=1e-4)
