"""Pocket's CLIP score: the similarity of an image and a prompt, by the unedited towers that pocket was trained with.

    score = 100 max(cos(v, t), 0)           v, t: the projected embeddings of image and prompt

The text tower is the text encoder as shipped, read from the package again so that no erasure can have edited it. The
image tower was trained together with it on renderings (InfoNCE, Radford et al. 2021, arXiv 2103.00020). Its cosines
are on another scale than those of OpenAI's CLIP. Licence: Apache-2.0. No threshold.

Known failures: it was trained on renderings only, and its score of an image unlike all of them means little. Whether
an image is readable at all is the judge's question.
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
from efface.models.convnet import ConvNet
from efface.models.image_checks import check_finite
from efface.models.model_ref import bundled_folder

IMAGE_SIZE = 64


class ImageTower(nn.Module):
    """The image network, and both towers' projections to the common space.

    Args:
        widths: channels of the image network.
        projection: width of the common space.
        text_width: width of the text encoder's pooled state.
    """

    def __init__(self, widths: Sequence[int], projection: int, text_width: int) -> None:
        super().__init__()
        self.image = ConvNet(widths)
        self.image_projection = nn.Linear(self.image.width, projection, bias=False)
        self.text_projection = nn.Linear(text_width, projection, bias=False)

    @classmethod
    def load(cls, folder: Path) -> ImageTower:
        """Loads the tower from ``config.json`` and ``model.safetensors``.

        Raises:
            CorruptArtifactError: a tensor is missing, or one belongs to no layer.
        """
        tower = cls(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        state = {
            name: tensor.float()
            for name, tensor in load_file(folder / "model.safetensors").items()
            if name != "log_scale"
        }
        keys = tower.load_state_dict(state, strict=False)
        missing = [name for name in keys.missing_keys if not name.endswith("num_batches_tracked")]
        if missing or keys.unexpected_keys:
            raise CorruptArtifactError(
                f"{folder} is not the CLIP tower that was trained: {[*missing, *keys.unexpected_keys]}"
            )
        return tower


class PocketClipScore:
    """Scores images against prompts.

    Attributes:
        detector: name, with a hash of both towers' weights as the version.
    """

    def __init__(self, tower: ImageTower, text: nn.Module, tokenizer: Any, version: str) -> None:
        self.tower = tower.eval().requires_grad_(False)
        self.text = text.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.detector = DetectorId("pocket-clip", version)

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> PocketClipScore:
        """Loads the towers from a model's folder (``tokenizer``, ``text_encoder`` and ``clip``).

        Raises:
            CorruptArtifactError: the files do not belong together.
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
        for component in ("text_encoder", "clip"):
            digest.update((folder / component / "model.safetensors").read_bytes())
        return cls(ImageTower.load(folder / "clip").to(device), text.to(device), tokenizer, digest.hexdigest()[:12])

    @torch.no_grad()
    def image_features(self, images: Tensor, batch_size: int = 128) -> Tensor:
        """Maps images ``(N, 3, 64, 64)`` in [0, 1] to unit vectors ``(N, d)``.

        Raises:
            ValueError: the images have another shape; resize them, and record that in the score's provenance.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(
                f"the CLIP tower reads images (N, 3, {IMAGE_SIZE}, {IMAGE_SIZE}), not {tuple(images.shape)}"
            )
        check_finite(images)
        weight = self.tower.image_projection.weight
        rows = [self.tower.image_projection(self.tower.image(b.to(weight))) for b in images.split(batch_size)]
        return nn.functional.normalize(torch.cat(rows), dim=-1)

    @torch.no_grad()
    def text_features(self, prompts: Sequence[str], batch_size: int = 128) -> Tensor:
        """Maps prompts, truncated to the context length of 24 tokens, to unit vectors ``(N, d)``."""
        length = self.tokenizer.model_max_length
        device = self.tower.text_projection.weight.device
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        pooled = [self.text(ids.to(device)).pooler_output for ids in tokens.input_ids.split(batch_size)]
        return nn.functional.normalize(self.tower.text_projection(torch.cat(pooled)), dim=-1)

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Returns the CLIP score, 0 to 100, of each image with its prompt, ``(N,)``.

        Args:
            images: ``(N, 3, 64, 64)`` in [0, 1].
            prompts: N prompts.

        Raises:
            ValueError: images and prompts differ in number.
        """
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images for {len(prompts)} prompts")
        if not prompts:
            return torch.zeros(0)
        row_of = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        text_features = self.text_features(list(row_of))[[row_of[prompt] for prompt in prompts]]
        return 100 * (self.image_features(images) * text_features).sum(-1).clamp(0, 1).cpu()


def load_clip_score(device: torch.device | str = "cpu") -> PocketClipScore:
    """Loads pocket's CLIP score with its unedited towers."""
    return PocketClipScore.load(bundled_folder("pocket"), device)
