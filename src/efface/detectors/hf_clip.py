"""The CLIP score with a model in transformers' layout, such as ``openai/clip-vit-base-patch32``.

    score = 100 max(cos(v, t), 0)

on torchmetrics' scale, v and t the projected embeddings of image and prompt. Scores of different models are not
comparable, so every score records the model's name and the hash of its weights.
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
from efface.models.image_checks import check_finite
from efface.models.pretrained_loading import load_complete


class HFClipScore:
    """Scores images against prompts with the two towers of a CLIP model.

    Args:
        folder: of ``CLIPModel.save_pretrained``, with the tokenizer's files; weights in safetensors.
        device: device to compute on.
        name: the model's name in scores; the folder's name by default.

    Attributes:
        detector: name and version.

    Raises:
        EffaceError: the folder or one of these files does not exist.
    """

    def __init__(self, folder: str | Path, device: torch.device | str = "cpu", name: str = "") -> None:
        folder = Path(folder)
        from transformers import CLIPModel, CLIPTokenizer

        self._model = load_complete(CLIPModel, folder, "a CLIP model").to(device)
        if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json")):
            raise EffaceError(f"{folder} has no tokenizer: save the CLIP model's tokenizer in it")
        self._tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        self.detector = DetectorId(name or folder.name, sha256_file(folder / "model.safetensors")[:12])

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Returns the CLIP score, 0 to 100, of each image with its prompt, ``(N,)``.

        Prompts are truncated to the context length. Images are resized to the model's input with a bicubic filter.

        Args:
            images: ``(N, 3, H, W)`` in [0, 1].
            prompts: N prompts.

        Raises:
            ValueError: images and prompts differ in number.
        """
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images for {len(prompts)} prompts")
        return 100 * (self.text_features(prompts) * self.image_features(images)).sum(-1).clamp(0, 1).cpu()

    @torch.no_grad()
    def image_features(self, images: Tensor) -> Tensor:
        """Maps images ``(N, 3, H, W)`` in [0, 1] to unit vectors ``(N, d)``."""
        out = self._model.vision_model(pixel_values=self._preprocess(check_finite(images)))
        return normalize(self._model.visual_projection(out.pooler_output), dim=-1)

    @torch.no_grad()
    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """Maps prompts, truncated to the context length, to unit vectors ``(N, d)``."""
        length = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(list(prompts), padding=True, truncation=True, max_length=length, return_tensors="pt")
        out = self._model.text_model(
            input_ids=tokens.input_ids.to(self._model.device),
            attention_mask=tokens.attention_mask.to(self._model.device),
        )
        return normalize(self._model.text_projection(out.pooler_output), dim=-1)

    def _preprocess(self, images: Tensor) -> Tensor:
        """Resizes images to the image tower's input and normalizes them with OpenAI's mean and standard deviation."""
        side = self._model.config.vision_config.image_size
        resized = interpolate(
            images.to(self._model.device), (side, side), mode="bicubic", antialias=True, align_corners=False
        ).clamp(0, 1)
        mean = resized.new_tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
        std = resized.new_tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
        return (resized - mean) / std
