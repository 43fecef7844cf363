"""Building a model: precision by device, and too little memory."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from helpers.tiny import PIPES

from efface.core.errors import EffaceError
from efface.models.builder import default_dtype
from efface.models.loading import load_model


def test_default_precision_by_device(monkeypatch):
    assert default_dtype(torch.device("cpu")) == torch.float32
    assert default_dtype(torch.device("mps")) == torch.float32
    for supported, dtype in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, answer=supported: answer)
        assert default_dtype(torch.device("cuda")) == dtype


@pytest.mark.parametrize("family", PIPES)
def test_too_little_memory_names_what_to_lower(family, folders, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    for pipeline_class in (StableDiffusionPipeline, StableDiffusionXLPipeline):
        monkeypatch.setattr(pipeline_class, "to", full)
    with pytest.raises(EffaceError, match="out of memory: the model does not fit: choose a smaller dtype"):
        load_model(folders[family])
