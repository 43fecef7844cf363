"""What flow models refuse, in one line that names a cure."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_flow import tiny_flow_of, tiny_flux_pipe, tiny_sd3_pipe
from torch import nn

from efface import api
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import BaseModelMismatchError, EffaceError
from efface.models.builder import wrap_pipeline
from efface.ops.editing.apply import applied


def test_a_quantized_transformer_generates_but_cannot_be_trained() -> None:
    pipe = tiny_flux_pipe()
    pipe.transformer.register_parameter("packed", nn.Parameter(torch.ones(2, dtype=torch.uint8), requires_grad=False))
    model = wrap_pipeline(pipe, "quantized")
    assert model.sample(["a cat"], seeds=[0], num_inference_steps=1, guidance_scale=3.5).isfinite().all()
    with pytest.raises(EffaceError, match="transformer is quantized, so that its weights cannot be trained or edited"):
        model.parameter_group("text_stream")


def test_an_erasure_of_dev_is_refused_on_schnell(tmp_path: Path) -> None:
    concept = Concept("gun", anchor="dog", retain_prompts=("a cat",))
    api.erase(concept, out=tmp_path / "e", model=tiny_flow_of("flux"), method="uce", quick_evaluation=False)
    schnell = wrap_pipeline(tiny_flux_pipe(guidance=False), "schnell")
    with (
        pytest.raises(BaseModelMismatchError, match="schnell") as error,
        applied(schnell, Erasure.load(tmp_path / "e")),
    ):
        pass
    assert "\n" not in str(error.value)


def test_schnell_is_trained_without_guidance(tmp_path: Path) -> None:
    schnell = wrap_pipeline(tiny_flux_pipe(guidance=False), "schnell")
    concept = Concept("gun", retain_prompts=("a cat",))
    settings = {"steps": 2, "num_images": 2, "num_inference_steps": 2}
    with pytest.raises(EffaceError, match=r"without guidance.*: set the guidance scale to 0, not 3.5"):
        api.erase(concept, out=tmp_path / "e", model=schnell, method="erase_anything", config=settings)
    config = {**settings, "guidance_scale": 0.0, "learning_rate": 0.1}
    api.erase(concept, out=tmp_path / "e", model=schnell, method="erase_anything", config=config)


def test_prompts_beyond_clips_context_are_named_without_t5() -> None:
    model = wrap_pipeline(tiny_sd3_pipe(t5=False), "SD3")
    with pytest.warns(UserWarning, match="longer than 14 tokens; cut off: 'cat cat'"):
        model.tokenize([" ".join(["cat"] * 16)])


def test_flux_needs_t5() -> None:
    pipe = tiny_flux_pipe()
    pipe.text_encoder_2 = None
    with pytest.raises(EffaceError, match="has no text_encoder_2"):
        wrap_pipeline(pipe, "FLUX")
