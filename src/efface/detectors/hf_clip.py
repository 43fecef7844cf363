"""The CLIP score by a model in transformers' layout, such as ``openai/clip-vit-base-patch32`` in a folder.

    score = 100 max(cos(v, t), 0)

the scale of torchmetrics; the model's name stands in the score, for values of different models do not compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from efface.core.errors import EffaceError
from efface.core.io import sha256_file
from efface.core.score import DetectorId

from .pretrained_loading import load_complete


class ClipModelScore:
    """Scores images with prompts by a CLIP model's own towers.

    Args:
        folder: of ``CLIPModel.save_pretrained``, with its tokenizer beside it; weights in safetensors.
        device: where to compute.
        name: what scores call it; the folder's name by default.

    Raises:
        EffaceError: no such folder, or one without these files.
    """

    def __init__(self, folder: str | Path, device: torch.device | str = "cpu", name: str = "") -> None:
        folder = Path(folder)
        from transformers import CLIPModel, CLIPTokenizer

        self._model = load_complete(CLIPModel, folder, "a CLIP model").to(device)
        if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
            raise EffaceError(f"{folder} has no tokenizer: save the CLIP model's own beside it")
        self._tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        self.detector = DetectorId(name or folder.name, sha256_file(folder / "model.safetensors")[:12])

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """The score, 0 to 100, of each image ``(N, 3, H, W)`` in [0, 1] with the prompt beside it: ``(N,)``.

        Prompts are cut to the context. Images are resized to the model's input with a bicubic filter.

        Raises:
            ValueError: another number of images than of prompts.
        """
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images for {len(prompts)} prompts")
        return 100 * (self.text_features(prompts) * self.image_features(images)).sum(-1).clamp(0, 1).cpu()

    @torch.no_grad()
    def image_features(self, images: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` in [0, 1] to unit vectors ``(N, d)``."""
        seen = self._model.vision_model(pixel_values=self._ready(images))
        return normalize(self._model.visual_projection(seen.pooler_output), dim=-1)

    @torch.no_grad()
    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """Prompts, cut to the context, to unit vectors ``(N, d)``."""
        length = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(list(prompts), padding=True, truncation=True, max_length=length, return_tensors="pt")
        text = self._model.text_model(
            input_ids=tokens.input_ids.to(self._model.device),
            attention_mask=tokens.attention_mask.to(self._model.device),
        )
        return normalize(self._model.text_projection(text.pooler_output), dim=-1)

    def _ready(self, images: Tensor) -> Tensor:
        """Images as the image tower takes them: OpenAI's mean and deviation by channel."""
        side = self._model.config.vision_config.image_size
        resized = interpolate(
            images.to(self._model.device), (side, side), mode="bicubic", antialias=True, align_corners=False
        ).clamp(0, 1)
        mean = resized.new_tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
        deviation = resized.new_tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
        return (resized - mean) / deviation
