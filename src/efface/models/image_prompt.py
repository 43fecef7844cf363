"""Images as prompts: tokens of an image that the denoiser reads beside the states of the text.

Pocket has a projection of its CLIP tower's embeddings, whose tokens follow the text's states. Stable Diffusion reads
images through the weights of an IP-Adapter (`efface.models.ip_adapter`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from diffusers.models.embeddings import ImageProjection
from safetensors.torch import load_file
from torch import Tensor

from efface.core.errors import EffaceError

from .editable import EditableModel
from .ip_adapter import installed_ip_adapter
from .model_ref import bundled_folder
from .protocol import Conditioning, Prediction

POCKET = "pocket"
"""Name of pocket's own projection."""
Predict = Callable[[Tensor, Tensor, Conditioning], Prediction]
"""Runs a denoiser, such as `EditableModel.predict` or a student's, at latents and timesteps for a conditioning."""


class ImageTower(Protocol):
    """CLIP's image tower."""

    def image_features(self, images: Tensor) -> Tensor:
        """Embeds images ``(N, 3, H, W)`` in [0, 1]: ``(N, d)``."""
        ...


class ImagePrompt(Protocol):
    """Reads images as prompts."""

    def tokens(self, images: Tensor) -> Tensor:
        """Returns the tokens of images ``(N, 3, H, W)`` in [0, 1]: ``(N, n, D)``, in the width of the text's states."""
        ...

    def predict(self, predict: Predict, z: Tensor, t: Tensor, cond: Conditioning, tokens: Tensor) -> Prediction:
        """Runs a denoiser with image tokens ``(B, n, D)`` beside the conditioning of B prompts."""
        ...


class ProjectedImagePrompt:
    """Tokens of a trained projection, which follow the states of the text.

    Args:
        folder: ``config.json`` and ``model.safetensors`` of the projection.
        tower: CLIP's image tower that the projection was trained with.
        model: the model, for device and precision.

    Raises:
        EffaceError: the model's text encoder is of another width.
    """

    def __init__(self, folder: Path, tower: ImageTower, model: EditableModel) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        states = model.unconditional(1).states
        if states.shape[-1] != config["text_width"]:
            raise EffaceError(
                f"{model.name} cannot read pocket's image tokens: --set image_adapter=FOLDER with an IP-Adapter for it"
            )
        projection = ImageProjection(config["image_width"], config["text_width"], config["num_tokens"])
        projection.load_state_dict(load_file(folder / "model.safetensors"))
        self.projection = projection.to(model.device).requires_grad_(False)
        self.tower = tower
        self.dtype = states.dtype

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """Returns the tokens of images."""
        tokens: Tensor = self.projection(self.tower.image_features(images).float())
        return tokens.to(self.dtype)

    def predict(self, predict: Predict, z: Tensor, t: Tensor, cond: Conditioning, tokens: Tensor) -> Prediction:
        """Runs a denoiser with image tokens behind the text's states."""
        return predict(z, t, Conditioning(torch.cat([cond.states, tokens], dim=1), cond.pooled))


@contextmanager
def image_prompt(model: EditableModel, adapter: str, load_tower: Callable[[], ImageTower]) -> Iterator[ImagePrompt]:
    """Makes a model read images while the context lasts.

    Args:
        model: the model.
        adapter: ``pocket`` for pocket's own projection, or the folder of an IP-Adapter.
        load_tower: loads pocket's image tower, for pocket's own projection.

    Raises:
        EffaceError: no adapter, a folder without an IP-Adapter, or weights for another architecture.
    """
    if not adapter:
        raise EffaceError(
            f"{model.name} reads images with an IP-Adapter alone: --set image_adapter=FOLDER, with one "
            ".safetensors file and the folder image_encoder"
        )
    if adapter == POCKET:
        yield ProjectedImagePrompt(bundled_folder(POCKET) / "image_prompt", load_tower(), model)
        return
    with installed_ip_adapter(model, Path(adapter)) as installed:
        yield installed
