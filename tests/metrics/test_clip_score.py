"""The CLIP score of a stream of images."""

from __future__ import annotations

import pytest
import torch

from efface.core.score import DetectorId
from efface.core.serialization import json_hash
from efface.metrics.clip_score import ClipScoreAccumulator


class Brightness:
    """Scores an image by its mean."""

    detector = DetectorId("brightness", "1")

    def __call__(self, images, prompts):
        return 100 * images.mean(dim=(1, 2, 3))


def test_the_mean_of_a_stream(rng, provenance):
    scores = ClipScoreAccumulator(Brightness())
    for value, prompt in ((0.2, "a"), (0.4, "b"), (0.6, "c")):
        scores.update(torch.full((4, 3, 2, 2), value), [prompt] * 4)
    score = scores.compute("near", rng=rng, provenance=provenance)
    assert (score.metric, score.group, score.n, score.detector) == ("clip_score", "near", 12, Brightness.detector)
    assert score.value == pytest.approx(40)
    assert score.low is not None
    assert score.high is not None
    assert score.low == pytest.approx(20), "three prompts, however many images of each"
    assert score.provenance.prompts == json_hash(["a", "b", "c"])
    assert score.provenance.sampler == "ddim"


def test_no_images_no_value_and_broken_ones_are_refused(rng, provenance):
    scores = ClipScoreAccumulator(Brightness())
    scores.update(torch.zeros(0, 3, 2, 2), [])
    with pytest.raises(ValueError, match="not finite"):
        scores.update(torch.full((1, 3, 2, 2), torch.nan), ["a"])
    with pytest.raises(ValueError, match="1 images for 2"):
        scores.update(torch.zeros(1, 3, 2, 2), ["a", "b"])
    score = scores.compute("near", rng=rng, provenance=provenance)
    assert (score.value, score.low, score.n) == (None, None, 0)
