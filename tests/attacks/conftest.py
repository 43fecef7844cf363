"""Fixtures of the tests of language models."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny_language import tiny_language_model

from efface import api
from efface.core.concept import Concept
from efface.models.causal_lm import CausalLM


@pytest.fixture(scope="module")
def model() -> CausalLM:
    """A tiny language model."""
    return tiny_language_model()


@pytest.fixture(scope="module")
def erasure(model: CausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An erasure of gun by an edit of states, made once for a file, whose tests add evidence."""
    folder = tmp_path_factory.mktemp("erasure") / "e"
    concept = Concept("gun", retain_prompts=("a cat meow .", "a dog bark ."))
    config = {"layer": 1, "num_texts": 8}
    api.erase(concept, out=folder, model=model, method="leace_lm", config=config)  # type: ignore[arg-type]
    return folder
