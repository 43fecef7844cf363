"""An image classifier in transformers' layout, such as ``microsoft/resnet-50`` or a ViT, both trained on ImageNet.

Its classes are the labels of its ``config.json``, in small letters. A label with several names is shortened to the
first ("church" of "church, church building") where no other label has the same first name. Only safetensors are read,
and no code of the folder is run. The set of classes is closed: the classifier finds one of them in noise, too. With a
threshold above 0 on the softmax confidence it can abstain; papers count its top-1 class without a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from efface.core.io import sha256_file
from efface.models.classifier import label_names, last_layer
from efface.models.image_checks import check_finite
from efface.models.preprocess import Preprocess
from efface.models.pretrained_loading import check_input_size, load_complete

from .abstention import CANNOT_TELL

BATCH_SIZE = 32


@dataclass(frozen=True)
class ClassJudgement:
    """The classifier's result for N images.

    Attributes:
        object: a class name, or ``"cannot tell"``, for each image.
        features: input of the classifier's last layer, ``(N, d)``.
    """

    object: list[str]
    features: Tensor


class ImageClassifier:
    """Classifies images with one head, ``object``.

    Args:
        folder: of ``save_pretrained``, with the file of its image processor.
        name: the detector's name in scores; the folder's name by default.
        threshold: softmax confidence below which it abstains.
        device: device to compute on.

    Attributes:
        id: name and version of the detector.
        classes: the class names, in the order of the logits.
        thresholds: the threshold by head.

    Raises:
        EffaceError: the folder does not exist, holds a pickle or another kind of model, or needs code of its own.
    """

    def __init__(
        self, folder: str | Path, name: str = "", threshold: float = 0.0, device: torch.device | str = "cpu"
    ) -> None:
        folder = Path(folder)
        from transformers import AutoModelForImageClassification

        self._net = load_complete(AutoModelForImageClassification, folder, "an image classifier").to(device)
        self._preprocess = Preprocess.from_folder(folder)
        self.classes = label_names([self._net.config.id2label[i] for i in range(self._net.config.num_labels)])
        self.thresholds = {"object": threshold}
        self.id = f"{name or folder.name}@{sha256_file(folder / 'model.safetensors')[:12]}"
        self._device = torch.device(device)
        self._last_layer = last_layer(self._net, len(self.classes), str(folder))[1]
        check_input_size(lambda images: self._run(images)[1], self._preprocess.crop, folder)

    def features(self, images: Tensor) -> Tensor:
        """Returns the input of the last layer, ``(N, d)``, for square images ``(N, 3, H, W)`` in [0, 1]."""
        return self._run(images)[1]

    def __call__(self, images: Tensor) -> ClassJudgement:
        """Classifies square images ``(N, 3, H, W)`` in [0, 1]."""
        logits, features = self._run(images)
        confidence, index = logits.softmax(-1).max(-1)
        labels = [
            self.classes[i] if p >= self.thresholds["object"] else CANNOT_TELL
            for p, i in zip(confidence.tolist(), index.tolist(), strict=True)
        ]
        return ClassJudgement(labels, features)

    @torch.no_grad()
    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits ``(N, classes)`` and features ``(N, d)`` on the CPU."""
        features: list[Tensor] = []
        hook = self._last_layer.register_forward_pre_hook(
            lambda _, args: features.append(args[0].flatten(1).float().cpu())
        )
        try:
            logits = [
                self._net(pixel_values=self._preprocess(batch.to(self._device))).logits.float().cpu()
                for batch in check_finite(images).split(BATCH_SIZE)
            ]
        finally:
            hook.remove()
        return torch.cat(logits), torch.cat(features)
