"""A tiny model and two erasures of it as folders, and an image cache for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.cli import QUICK_CONFIG, tiny_folder
from helpers.tiny import erasure_of, tiny_model

from efface import api
from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.ops.tensor_conversion import to_blob


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def erasure_folder(tmp_path_factory, model_folder) -> Path:
    """An erasure that tests copy and do not change."""
    out = tmp_path_factory.mktemp("erasures") / "e"
    api.erase(Concept("gun", retain_prompts=("a cat",)), out=out, model=model_folder, config=QUICK_CONFIG)
    return out


@pytest.fixture(scope="session")
def lora_folder(tmp_path_factory) -> Path:
    """An erasure with a LoRA for the tiny model, which tests do not change."""
    model, out = tiny_model(), tmp_path_factory.mktemp("erasures") / "e"
    name, p = next(iter(model.parameter_group("cross_kv").parameters.items()))
    factors = {"up": to_blob(torch.ones(p.shape[0], 1)), "down": to_blob(torch.ones(1, p.shape[1]))}
    edit = Edit("unet", "low_rank", {f"{name}.up": "up", f"{name}.down": "down"})
    erasure_of(model, [edit], factors).save(out)
    return out
