"""A tiny model and an erasure of it as folders, and an image cache for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cli import QUICK_CONFIG, tiny_folder

from efface import api
from efface.core.concept import Concept


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
