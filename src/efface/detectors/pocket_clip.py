"""Pocket's CLIP score: how well an image fits a prompt, by the towers that pocket was trained with, never by edited ones.

    score = 100 max(cos(v, t), 0)           v, t: the projected embeddings of image and prompt

The text tower is the text encoder as shipped, read from the package again so that no erasure can have touched it; the image tower was
trained beside it on renderings (InfoNCE, Radford et al. 2021, arXiv 2103.00020). Its cosines are on another scale than those of
OpenAI's CLIP. Licence: Apache-2.0. No threshold.

How it can be fooled: it has seen renderings only, and says little of images unlike any of them; whether an image is readable at all
is the judge's to say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from efface.core.errors import CorruptArtifactError
from efface.core.score import DetectorId
from efface.models.loading import bundled_folder

from .convnet import ConvNet

IMAGE_SIZE = 64


class ImageTower(nn.Module):
    """The image network, and both towers' projections to the common space."""

    def __init__(self, widths: Sequence[int], projection: int, text_width: int) -> None:
        super().__init__()
        self.image = ConvNet(widths)
        self.image_projection = nn.Linear(self.image.width, projection, bias=False)
        self.text_projection = nn.Linear(text_width, projection, bias=False)

    @classmethod
    def load(cls, folder: Path) -> ImageTower:
        """Read ``config.json`` and ``model.safetensors``.

        Raises:
            DamagedArtifact: a tensor is missing, or one is there that belongs to no layer.
        """
        tower = cls(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        state = {
            name: tensor.float()
            for name, tensor in load_file(folder / "model.safetensors").items()
            if name != "log_scale"
        }
        wrong = tower.load_state_dict(state, strict=False)
        missing = [name for name in wrong.missing_keys if not name.endswith("num_batches_tracked")]
        if missing or wrong.unexpected_keys:
            raise CorruptArtifactError(
                f"{folder} is not the CLIP tower that was trained: {[*missing, *wrong.unexpected_keys]}"
            )
        return tower


class ClipScore:
    """Scores images with prompts.

    Attributes:
        detector: the id, with a hash of the weights of both towers as the version.
    """

    def __init__(self, tower: ImageTower, text: nn.Module, tokenizer: Any, version: str) -> None:
        self.tower = tower.eval().requires_grad_(False)
        self.text = text.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.detector = DetectorId("pocket-clip", version)

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> ClipScore:
        """Read the towers from a model's folder (``tokenizer``, ``text_encoder`` and ``clip``).

        Raises:
            DamagedArtifact: files that do not belong together.
        """
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        text = CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
        if text.config.eos_token_id != tokenizer.eos_token_id:
            raise CorruptArtifactError(
                f"the text encoder in {folder} pools the token {text.config.eos_token_id}, not {tokenizer.eos_token_id}"
            )
        digest = hashlib.sha256()
        for part in ("text_encoder", "clip"):
            digest.update((folder / part / "model.safetensors").read_bytes())
        return cls(ImageTower.load(folder / "clip").to(device), text.to(device), tokenizer, digest.hexdigest()[:12])

    @torch.no_grad()
    def image_features(self, images: Tensor, batch: int = 128) -> Tensor:
        """Images ``(N, 3, 64, 64)`` in [0, 1] to unit vectors ``(N, d)``.

        Raises:
            ValueError: images of another shape; resize them, and say so in the score's provenance.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(
                f"the CLIP tower sees images (N, 3, {IMAGE_SIZE}, {IMAGE_SIZE}), not {tuple(images.shape)}"
            )
        weight = self.tower.image_projection.weight
        parts = [self.tower.image_projection(self.tower.image(part.to(weight))) for part in images.split(batch)]
        return nn.functional.normalize(torch.cat(parts), dim=-1)

    @torch.no_grad()
    def text_features(self, prompts: Sequence[str], batch: int = 128) -> Tensor:
        """Prompts to unit vectors ``(N, d)``; what goes beyond the context of 24 tokens is cut off."""
        length, device = self.tokenizer.model_max_length, self.tower.text_projection.weight.device
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        pooled = [self.text(part.to(device)).pooler_output for part in tokens.input_ids.split(batch)]
        return nn.functional.normalize(self.tower.text_projection(torch.cat(pooled)), dim=-1)

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """The CLIP score, 0 to 100, of each image ``(N, 3, 64, 64)`` in [0, 1] with the prompt beside it: ``(N,)``.

        Raises:
            ValueError: another number of images than of prompts.
        """
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images for {len(prompts)} prompts")
        if not prompts:
            return torch.zeros(0)
        place = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        text = self.text_features(list(place))[[place[prompt] for prompt in prompts]]
        return 100 * (self.image_features(images) * text).sum(-1).clamp(0, 1).cpu()


def load_clip_score(device: torch.device | str = "cpu") -> ClipScore:
    """Pocket's CLIP score, by its unedited towers."""
    return ClipScore.load(bundled_folder("pocket"), device)
