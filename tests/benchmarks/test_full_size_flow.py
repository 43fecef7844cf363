"""The counts of FLUX and SD3 at their true size, and the benchmark's step on narrow models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

PERF = Path(__file__).parents[2] / "benchmarks" / "perf"


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("peft")
    monkeypatch.syspath_prepend(str(PERF))
    import full_size_flow

    return full_size_flow


@pytest.mark.slow
def test_the_counts_are_those_of_the_published_models(flow: Any) -> None:
    counts = flow.parameter_counts("flux")
    assert round(counts["transformer"] / 1e9, 1) == 11.9
    assert round(counts["text_encoder_2"] / 1e9, 2) == 4.76
    assert round(flow.parameter_counts("sd3")["transformer"] / 1e9, 2) == 2.03
    assert flow.lora_parameters("flux", rank=8) == 19 * 2 * 8 * (3072 + 3072)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_the_step_is_measured_beside_a_plain_one(flow: Any, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = {"attention_head_dim": 16, "num_attention_heads": 2}
    import flow_models

    monkeypatch.setattr(flow_models, "FLUX", flow_models.FLUX | narrow | {"axes_dims_rope": (4, 6, 6)})
    monkeypatch.setattr(flow_models, "SD3", flow_models.SD3 | narrow | {"caption_projection_dim": 32})
    found = flow.measure_flow(family, 1, 64, 1, torch.device("cpu"), torch.float32, "", lambda text: None)
    measured = found["measured"]
    for part in ("erase_anything", "plain_without_attention_terms"):
        assert measured[part]["erase_seconds"] > 0
        assert measured[part]["peak_gb"] > 0
    assert measured["image_tokens"] == 16
    assert measured["ratio_to_plain"] > 0
