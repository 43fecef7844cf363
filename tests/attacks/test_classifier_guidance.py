"""The classifier-guidance probe keeps, of the images with several strengths, the one that its image tower prefers."""

from __future__ import annotations

from typing import Any

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


def pulls_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Notes the index and the strength of every step that the probe takes."""
    pulls, step = list[tuple[int, float]](), probe.pulled_step

    def noted(z: torch.Tensor, epsilon: torch.Tensor, levels: Levels, *pull: Any) -> torch.Tensor:
        pulls.append((levels.index, pull[1]))
        return step(z, epsilon, levels, *pull)

    monkeypatch.setattr(probe, "pulled_step", noted)
    return pulls


def found(monkeypatch: pytest.MonkeyPatch, wanted: float, **settings: float) -> list[bytes]:
    """The latents that the probe finds where the image tower prefers an image of the scale ``wanted``."""
    pulls = pulls_of(monkeypatch)

    def score(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        return torch.full((len(images),), -abs(pulls[-1][1] - wanted))

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


@pytest.mark.parametrize(("share", "strengths"), [(1.0, [25.0, 25.0]), (0.4, [25.0, 0.0]), (0.01, [25.0, 0.0])])
def test_a_share_of_the_steps_is_pulled(monkeypatch: pytest.MonkeyPatch, share: float, strengths: list[float]) -> None:
    pulls = pulls_of(monkeypatch)
    config = probe.Config(**SMALL, num_scales=1, pulled_share=share)  # type: ignore[arg-type]
    probe.classifier_guidance_probe(tiny_model(), Concept("gun"), TASKS, config, run())
    assert pulls == list(enumerate(strengths))


def test_a_normalized_pull_has_the_norm_of_the_prediction() -> None:
    class Classifier:
        def gradient(self, z: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
            return 1e-12 * torch.ones_like(z)

    z, epsilon = torch.zeros(2, 4, 3, 3), torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    levels = Levels(900, 0.6, 0.8, 0.0, 1.0, 0)  # the step leads to the pulled prediction itself
    pull = probe.pulled_step(z, epsilon, levels, Classifier(), 0.5, True) - epsilon  # type: ignore[arg-type]
    wanted = 0.5 * 0.8 * epsilon.flatten(1).norm(dim=1)
    assert torch.allclose(pull.flatten(1).norm(dim=1), wanted)
    assert (pull < 0).all()


def test_settings_without_images_or_strengths_are_refused() -> None:
    for name in ("num_images", "num_scales"):
        config = probe.Config(**{**SMALL, name: 0})  # type: ignore[arg-type]
        with pytest.raises(EffaceError, match="at least 1"):
            probe.classifier_guidance_probe(tiny_model(), Concept("gun"), TASKS, config, run())
    for share in (0.0, 1.5):
        config = probe.Config(**SMALL, pulled_share=share)  # type: ignore[arg-type]
        with pytest.raises(EffaceError, match="pulled_share"):
            probe.classifier_guidance_probe(tiny_model(), Concept("gun"), TASKS, config, run())
