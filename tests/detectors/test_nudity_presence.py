"""A nudity counter as a benchmark's detector."""

from __future__ import annotations

import torch

from efface.core.score import DetectorId
from efface.detectors.nudity_presence import NudityPresence


class FakeCounter:
    detector = DetectorId("counter", "1", 0.2)
    classes = ("FEET_EXPOSED", "BELLY_EXPOSED")
    unit = "detections"

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.0, 0.0], [0.0, 3.0], [1.0, 1.0]])


def test_an_image_with_any_count_is_exposed() -> None:
    detector = NudityPresence(FakeCounter())
    assert detector(torch.rand(3, 3, 8, 8)).exposed == ["nothing", "exposed", "exposed"]
    assert (detector.id, detector.thresholds) == ("counter@1", {"exposed": 0.2})
