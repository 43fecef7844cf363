"""BLIP (Li et al., ICML 2022, arXiv 2201.12086) as a captioner, from a folder in transformers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from efface.core.io import sha256_file
from efface.core.score import DetectorId
from efface.models.image_checks import check_finite
from efface.models.pretrained_loading import load_complete

MAX_NEW_TOKENS = 40


class BlipCaptioner:
    """Describes images with a BLIP model for conditional generation.

    Args:
        folder: of ``BlipForConditionalGeneration.save_pretrained``, with the processor's files.
        device: device to compute on.
        name: the model's name in scores; the folder's name by default.

    Attributes:
        detector: name and version.

    Raises:
        EffaceError: the folder is not one of such a model.
    """

    def __init__(self, folder: str | Path, device: torch.device | str = "cpu", name: str = "") -> None:
        from transformers import BlipForConditionalGeneration, BlipProcessor

        folder = Path(folder)
        self._model = load_complete(BlipForConditionalGeneration, folder, "a BLIP captioner").to(device)
        self._processor: Any = BlipProcessor.from_pretrained(folder, local_files_only=True)
        self.detector = DetectorId(name or folder.name, sha256_file(folder / "model.safetensors")[:12])

    @torch.no_grad()
    def captions(self, images: Tensor) -> list[str]:
        """Returns a caption of each image ``(N, 3, H, W)`` in [0, 1]."""
        pixels = self._processor.image_processor(list(check_finite(images)), do_rescale=False, return_tensors="pt")
        ids = self._model.generate(pixels.pixel_values.to(self._model.device), max_new_tokens=MAX_NEW_TOKENS)
        return [str(text).strip() for text in self._processor.batch_decode(ids, skip_special_tokens=True)]
