"""A studio with a tiny model, two erasures of it, and a saved attack on the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import erasure_of, tiny_model

from efface.core.attack_set import AttackPrompt, AttackSet
from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.web.studio import Studio


@pytest.fixture(scope="session")
def studio_folders(tmp_path_factory) -> list[Path]:
    model, folder = tiny_model(), tmp_path_factory.mktemp("studio")
    rng, name = np.random.default_rng(0), "encoder.layers.1.mlp.fc1.weight"
    low_rank = Edit("text_encoder", "low_rank", {f"{name}.down": "d", f"{name}.up": "u"}, params={"scale": 2.0})
    tensors = {"d": rng.normal(size=(2, 32)).astype("f4"), "u": rng.normal(size=(64, 2)).astype("f4")}
    guidance = Edit("sampler", "guidance", params={"rule": "negative_prompt", "prompts": ["a gun"]})
    erasure_of(model, [low_rank], tensors).save(folder / "first")
    erasure_of(model, [guidance]).save(folder / "second")
    prompts = tuple(AttackPrompt("a gun", text, seed) for seed, text in enumerate(("a gnu", "a cat", "my gun")))
    AttackSet("synonyms", Concept("gun"), prompts).save(folder / "first/evidence/attacks/synonyms")
    return [folder / "first", folder / "second"]


@pytest.fixture(scope="module")
def studio(studio_folders) -> Studio:
    return Studio(studio_folders, tiny_model())
