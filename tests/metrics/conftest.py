from __future__ import annotations

import numpy as np
import pytest

from efface.core.score import Provenance


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def provenance() -> Provenance:
    return Provenance(sampler="ddim", num_inference_steps=20, guidance_scale=3.0)
