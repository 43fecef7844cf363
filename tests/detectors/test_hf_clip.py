"""CLIP models in transformers' layout: a tiny one compared with the library's own forward pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.classifiers import saved_clip
from helpers.tiny import CONTEXT, tiny_tokenizer

from efface.core.errors import EffaceError
from efface.detectors.hf_clip import HFClipScore


def test_scores_equal_the_librarys_cosines(tmp_path: Path) -> None:
    model = saved_clip(tmp_path)
    scorer = HFClipScore(tmp_path)
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    prompts = ["a cat", "a dog", "a b c d e f g h i j k l m n o p q r"]
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    tokens = tiny_tokenizer()(prompts, padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt")
    with torch.no_grad():
        expected = model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=(images - mean) / std
        )
    cosines = torch.diagonal(expected.image_embeds @ expected.text_embeds.T)
    torch.testing.assert_close(scorer(images, prompts), 100 * cosines.clamp(0, 1), atol=1e-2, rtol=1e-3)
    assert scorer(torch.rand(1, 3, 32, 32), ["a cat"]).shape == (1,)
    assert scorer.detector.id == tmp_path.name
    assert HFClipScore(tmp_path, name="org/clip").detector.id == "org/clip"
    with pytest.raises(ValueError, match="1 images for 2 prompts"):
        scorer(images[:1], prompts[:2])


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match=r"not a CLIP model: it has no config\.json"):
        HFClipScore(tmp_path)
