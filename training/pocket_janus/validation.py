"""Generates images with transformers' own ``generate`` and scores them with pocket's judge."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import JanusForConditionalGeneration, PreTrainedTokenizerFast

from efface.detectors.pocket_judge import Judge
from efface.models.patch_image_tokenizer import PatchImageTokenizer
from pocket_janus.model import GUIDANCE_SCALE
from quality import Sample


def prompt_ids(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Returns token ids and mask ``(B, L)`` of prompts, padded on the left, each with the start of an image behind."""
    tokens = tokenizer([text + tokenizer.boi_token for text in texts], padding=True, return_tensors="pt")
    return tokens.input_ids, tokens.attention_mask


@torch.no_grad()
def score(
    model: JanusForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    images: PatchImageTokenizer,
    judge: Judge,
    rows: list[Sample],
    *,
    seed: int,
) -> dict[str, float]:
    """Returns the shares of images that show the object, the background and the style of their scene."""
    ids, mask = prompt_ids(tokenizer, [text for text, _ in rows])
    model.eval()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokens = model.generate(
            inputs=ids, attention_mask=mask, generation_mode="image", do_sample=True, guidance_scale=GUIDANCE_SCALE
        )
    model.train()
    predicted = judge((images.decode(tokens) / 2 + 0.5).clamp(0, 1))
    return {
        head: sum(a == getattr(s, head) for a, (_, s) in zip(getattr(predicted, head), rows, strict=True)) / len(rows)
        for head in ("object", "background", "style")
    }
