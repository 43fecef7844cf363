"""The classifier-guidance probe keeps, of the images with several strengths, the one that its image tower prefers."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

import efface.attacks.classifier_guidance_probe as probe
from efface.core.attack_set import AttackTask
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.sampler_probe import Levels

TASKS = [AttackTask(f"a {letter} gun", f"a {letter} {{}}", i) for i, letter in enumerate("ab")]
SMALL = {"num_images": 2, "steps": 2, "batch_size": 2, "num_templates": 2, "num_inference_steps": 3}


def run() -> AttackContext:
    return AttackContext(seed=3, device=torch.device("cpu"))


def found(monkeypatch: pytest.MonkeyPatch, wanted: float, **settings: float) -> list[bytes]:
    """The latents that the probe finds where the image tower prefers an image of the scale ``wanted``."""
    scales: list[float] = []
    step = probe.pulled_step

    def noted(z: torch.Tensor, epsilon: torch.Tensor, levels: Levels, classifier: object, scale: float) -> torch.Tensor:
        scales.append(scale)
        return step(z, epsilon, levels, classifier, scale)  # type: ignore[arg-type]

    monkeypatch.setattr(probe, "pulled_step", noted)

    def score(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        return torch.full((len(images),), -abs(scales[-1] - wanted))

    monkeypatch.setattr(probe, "load_scorer", lambda name, device: score)
    config = probe.Config(**{**SMALL, "image_tower": "any", **settings})  # type: ignore[arg-type]
    rows = probe.classifier_guidance_probe(tiny_model(), Concept("gun"), TASKS, config, run()).prompts
    return [bytes(row.start.latent.data) for row in rows if row.start]


def test_the_best_of_several_strengths_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    several = {"min_scale": 0.0, "max_scale": 40.0, "num_scales": 3}
    plain = found(monkeypatch, 0.0, num_scales=1, min_scale=0.0)
    assert found(monkeypatch, 0.0, **several) == plain
    strongest = found(monkeypatch, 40.0, **several)
    assert strongest == found(monkeypatch, 40.0, num_scales=1, min_scale=40.0)
    assert strongest != plain


def test_settings_without_images_or_strengths_are_refused() -> None:
    for name in ("num_images", "num_scales"):
        config = probe.Config(**{**SMALL, name: 0})  # type: ignore[arg-type]
        with pytest.raises(EffaceError, match="at least 1"):
            probe.classifier_guidance_probe(tiny_model(), Concept("gun"), TASKS, config, run())
