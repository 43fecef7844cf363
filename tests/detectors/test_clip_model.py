"""CLIP models in transformers' layout: a tiny one built from a config, against the library's own forward pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import CONTEXT, tiny_tokenizer
from transformers import CLIPConfig, CLIPModel

from efface.core.errors import EffaceError
from efface.detectors.clip_model import ClipModelScore


def saved(folder: Path) -> CLIPModel:
    tokenizer = tiny_tokenizer()
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, **sizes, **ids}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config={"image_size": 8, "patch_size": 4, **sizes}, projection_dim=12)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def test_scores_are_the_librarys_cosines(tmp_path: Path) -> None:
    model = saved(tmp_path)
    scorer = ClipModelScore(tmp_path)
    images, prompts = (
        torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
        ["a cat", "a dog", "a b c d e f g h i j k l m n o p q r"],
    )
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]))
    tokens = tiny_tokenizer()(prompts, padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt")
    with torch.no_grad():
        wanted = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=(images - mean) / deviation)
    cosines = torch.diagonal(wanted.image_embeds @ wanted.text_embeds.T)
    torch.testing.assert_close(scorer(images, prompts), 100 * cosines.clamp(0, 1), atol=1e-2, rtol=1e-3)
    assert scorer(torch.rand(1, 3, 32, 32), ["a cat"]).shape == (1,)
    assert scorer.detector.id == tmp_path.name
    with pytest.raises(ValueError, match="1 pictures for 2 prompts"):
        scorer(images[:1], prompts[:2])


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match=r"no CLIP model: it has no config\.json"):
        ClipModelScore(tmp_path)
