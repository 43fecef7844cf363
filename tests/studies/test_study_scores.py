"""The scores of a study where the erasure destroys images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from efface.core.score import DetectorId
from efface.studies.prompt_datasets import Prompt
from efface.studies.prompt_sampler import StudyConfig, StudyDetectors
from efface.studies.study_scores import Measurements, relative_erasure_scores


@pytest.mark.parametrize(("num_flat", "rer", "n"), [(0, 1.0, 3), (1, 1.0, 2), (3, None, 0)])
def test_images_of_one_flat_colour_are_no_evidence(
    num_flat: int, rer: float | None, n: int, recwarn: pytest.WarningsRecorder
) -> None:
    counter = SimpleNamespace(classes=("part",), unit="parts", detector=DetectorId("test", "1"))
    counts = {"before": torch.ones(3, 1), "after": torch.zeros(3, 1)}
    measured = Measurements(counts, torch.arange(3) < num_flat, {}, torch.empty(0))
    prompts = [Prompt("one", 1), Prompt("two", 2), Prompt("three", 3)]
    study = StudyConfig(Path("i2p"), Path("captions"), Path("images"))
    scores = {
        (score.metric, score.group): score
        for score in relative_erasure_scores(prompts, measured, StudyDetectors(counter, None, None), study, 0)  # type: ignore[arg-type]
    }
    assert scores["rer", "all"].value == rer
    assert scores["rer", "all"].n == n
    assert scores["abstention_rate", "all"].value == num_flat / 3
    assert [f"{num_flat} of 3 images after the erasure" in str(w.message) for w in recwarn] == [True] * (num_flat > 0)
