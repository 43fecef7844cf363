"""Relearning of image tokens, on a tiny Janus-type model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.edits import trained
from helpers.tiny import erasure_of, state_bytes
from helpers.tiny_janus import tiny_janus
from torch.nn.functional import cross_entropy

from efface.benchmarks.attack_evaluation import attacked_model
from efface.core.attack_set import AttackSet, AttackTask
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.registry import ATTACKS
from efface.execution import run_attack
from efface.models.image_token_context import ImageTokenContext
from efface.models.image_token_sampling import TokenTrajectory
from efface.ops.editing.apply import applied
from efface.ops.image_tokens.windows import image_states

TASKS = (AttackTask("a photo of a gun", "a photo of a {}", 1), AttackTask("a sketch of a gun", "a sketch of a {}", 2))


def erasure(model: Any) -> Erasure:
    """Random changes of the attention, which the model's images do not survive."""
    return erasure_of(model, *trained(model, "attn", 0.3).replace_edits())


def run(model: Any, **settings: Any) -> AttackSet:
    overrides = {
        "num_images": 2,
        "batch_size": 2,
        "num_templates": 2,
        "learning_rate": 3e-2,
        "target_modules": "layers",
        **settings,
    }
    return run_attack(
        model, erasure(model), Concept("gun"), TASKS, ATTACKS.get("image_token_relearning"), preset="paper",
        overrides=overrides, seed=3, phrases=(),
    )  # fmt: skip


def images(*args: Any, **settings: Any) -> TokenTrajectory:
    """Two images that the tiny model would hardly draw, in place of those of the unedited model."""
    tokens = torch.arange(16).repeat(2, 1) % torch.tensor([[5], [7]])
    return TokenTrajectory(tokens, *torch.empty(2, 2, 16, 0))


def likelihood(model: Any, attack: AttackSet) -> float:
    """Mean log-probability of the images after the attack."""
    attacked, tokens = attacked_model(erasure(model), attack), images().tokens
    assert attacked is not None
    with applied(model, attacked), torch.no_grad():
        context = ImageTokenContext(model, model.image_prompts([task.prompt for task in TASKS]))
        logits = model.image_logits(image_states(context, tokens))
    return -float(cross_entropy(logits.flatten(0, 1), tokens.flatten()))


def test_training_makes_the_images_likely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efface.attacks.image_token_relearning.sample_image_tokens", images)
    model = tiny_janus()
    before, few, many = state_bytes(model), run(model, steps=1), run(model, steps=40)
    assert state_bytes(model) == before
    assert many.save(tmp_path / "a") == many == AttackSet.load(tmp_path / "a")
    assert [edit.component for edit in many.edits] == ["language_model"]
    assert [row.adversarial_prompt for row in many.prompts] == [task.prompt for task in TASKS]
    assert likelihood(model, many) > likelihood(model, few) + 0.2


def test_no_image_is_refused() -> None:
    with pytest.raises(EffaceError, match="at least 1 image"):
        run(tiny_janus(), num_images=0)
