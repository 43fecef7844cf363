"""Effect of the methods with their presets on whole benchmarks: no value falls below its floor."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.effect import erase_and_evaluate, value

from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel

FLOORS = {
    ("esd", "pocket-weapon"): (0.9, 0.93),
    ("esd", "pocket-style"): (0.95, 0.95),
    ("esd", "pocket-animal"): (0.92, 0.8),
    ("concept_ablation", "pocket-weapon"): (0.95, 0.95),
    ("concept_ablation", "pocket-santa"): (0.95, 0.92),
    ("concept_ablation", "pocket-animal"): (0.95, 0.91),
    ("concept_ablation", "pocket-style"): (0.78, 0.95),
    ("all_but_one", "pocket-weapon"): (0.95, 0.94),
    ("all_but_one", "pocket-style"): (0.8, 0.95),
    ("all_but_one", "pocket-santa"): (0.92, 0.84),
    ("ant", "pocket-weapon"): (0.82, 0.92),
    ("ant", "pocket-style"): (0.9, 0.95),
    ("ant", "pocket-santa"): (0.9, 0.78),
    ("race", "pocket-instrument"): (0.85, 0.88),
    ("race", "pocket-style"): (0.85, 0.95),
    ("race", "pocket-weapon"): (0.88, 0.87),
    ("doco", "pocket-instrument"): (0.85, 0.88),
    ("doco", "pocket-weapon"): (0.85, 0.92),
    ("doco", "pocket-santa"): (0.92, 0.78),
    ("few_shot", "pocket-instrument"): (0.85, 0.83),
    ("few_shot", "pocket-style"): (0.92, 0.95),
    ("few_shot", "pocket-weapon"): (0.9, 0.86),
    ("crce", "pocket-weapon"): (0.78, 0.93),
    ("crce", "pocket-style"): (0.85, 0.95),
    ("crce", "pocket-santa"): (0.83, 0.76),
    ("co_erasing", "pocket-weapon"): (0.82, 0.83),
    ("ace", "pocket-instrument"): (0.85, 0.88),
    ("ace", "pocket-weapon"): (0.88, 0.93),
    ("ace", "pocket-style"): (0.92, 0.95),
    ("ace", "pocket-santa"): (0.92, 0.78),
    ("spm", "pocket-instrument"): (0.8, 0.9),
    ("spm", "pocket-weapon"): (0.82, 0.93),
    ("spm", "pocket-style"): (0.88, 0.95),
    ("unguide", "pocket-instrument"): (0.9, 0.87),
    ("unguide", "pocket-weapon"): (0.92, 0.89),
    ("unguide", "pocket-style"): (0.92, 0.95),
    ("receler", "pocket-instrument"): (0.8, 0.8),
    ("receler", "pocket-weapon"): (0.9, 0.87),
    ("receler", "pocket-style"): (0.86, 0.95),
    ("itd", "pocket-instrument"): (0.65, 0.8),
    ("itd", "pocket-weapon"): (0.82, 0.77),
    ("itd", "pocket-style"): (0.92, 0.95),
    ("sage", "pocket-style"): (0.95, 0.93),
    ("advunlearn", "pocket-weapon"): (0.85, 0.75),
    ("uce", "pocket-weapon"): (0.95, 0.9),
    ("uce", "pocket-animal"): (0.95, 0.83),
    ("uce", "pocket-style"): (0.95, 0.95),
    ("rece", "pocket-weapon"): (0.95, 0.82),
    ("rece", "pocket-style"): (0.95, 0.95),
    ("speed", "pocket-style"): (0.9, 0.95),
    ("mace", "pocket-weapon"): (0.84, 0.93),
    ("trce", "pocket-weapon"): (0.91, 0.93),
    ("realera", "pocket-weapon"): (0.94, 0.9),
    ("leace", "pocket-weapon"): (0.85, 0.84),
    ("leace", "pocket-santa"): (0.95, 0.82),
    ("leace", "pocket-animal"): (0.95, 0.8),
    ("leace", "pocket-style"): (0.95, 0.95),
    ("inlp", "pocket-animal"): (0.9, 0.86),
    ("rlace", "pocket-style"): (0.95, 0.95),
}
"""Lower bounds of RER of the name and retention of other objects: measured values (docs/methods) less a margin."""


EMBEDDED_FLOORS = {
    ("pocket-flow", "erase_anything", "pocket-weapon"): (0.9, 0.9),
    ("pocket-flow", "erase_anything", "pocket-style"): (0.92, 0.95),
    ("pocket-flow", "esd", "pocket-weapon"): (0.84, 0.95),
    ("pocket-janus", "ear", "pocket-weapon"): (0.75, 0.85),
    ("pocket-janus", "ear", "pocket-santa"): (0.9, 0.85),
    ("pocket-janus", "ear", "pocket-style"): (0.9, 0.9),
    ("pocket-janus", "esd_logits", "pocket-santa"): (0.9, 0.8),
    ("pocket-janus", "esd_logits", "pocket-style"): (0.9, 0.9),
}
"""The same bounds on the other embedded models."""


@pytest.mark.effect
@pytest.mark.parametrize(("model", "method", "benchmark"), EMBEDDED_FLOORS)
def test_trained_methods_on_other_embedded_models(tmp_path: Path, model: str, method: str, benchmark: str) -> None:
    result = erase_and_evaluate(load_model(model), method, benchmark, tmp_path / "e", None)
    name, other = EMBEDDED_FLOORS[model, method, benchmark]
    assert value(result, "rer", "name") >= name, result.summary()
    assert value(result, "retention", "other") >= other, result.summary()


@pytest.mark.effect
@pytest.mark.parametrize(("method", "benchmark"), FLOORS)
def test_trained_methods_on_every_benchmark(
    pocket: StableDiffusionModel, tmp_path: Path, method: str, benchmark: str
) -> None:
    result, (name, other) = (
        erase_and_evaluate(pocket, method, benchmark, tmp_path / "e", None),
        FLOORS[method, benchmark],
    )
    assert value(result, "rer", "name") >= name, result.summary()
    assert value(result, "retention", "other") >= other, result.summary()
