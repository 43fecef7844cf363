"""A classifier of images in transformers' layout, such as ``microsoft/resnet-50`` or a ViT, both trained on ImageNet.

Its classes are the labels of its ``config.json``, by their first name in small letters ("church" of "church, church building"), by all
names where the first is not its own. Only safetensors are read, and no code from the folder is run. It is a closed set: it names one of its
classes in noise, too. A threshold above 0 on the softmax confidence makes it say "cannot tell"; papers count the first class without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from efface.core.io import sha256_file

from .pocket_judge import CANNOT_TELL
from .preprocess import Preprocess
from .pretrained_loading import load_complete

BATCH = 32


@dataclass(frozen=True)
class ClassJudgement:
    """What was seen in one batch: class names (or ``"cannot tell"``) and the features behind them, ``(N, d)``."""

    object: list[str]
    features: Tensor


class Classifier:
    """Looks at images with one head, ``object``.

    Args:
        folder: of ``save_pretrained``, with its image processor's file beside it.
        name: what scores call it; the folder's name by default.
        threshold: the softmax confidence below which it cannot tell.
        device: where to compute.

    Raises:
        EffaceError: no such folder, a pickle, a model of another kind, or one that wants code of its own to be run.
    """

    def __init__(
        self, folder: str | Path, name: str = "", threshold: float = 0.0, device: torch.device | str = "cpu"
    ) -> None:
        folder = Path(folder)
        from transformers import AutoModelForImageClassification

        self._net = load_complete(AutoModelForImageClassification, folder, "an image classifier").to(device)
        self._ready = Preprocess.of(folder)
        self.classes = label_names([self._net.config.id2label[i] for i in range(self._net.config.num_labels)])
        self.thresholds = {"object": threshold}
        self.id = f"{name or folder.name}@{sha256_file(folder / 'model.safetensors')[:12]}"
        self._device = torch.device(device)
        self._last = next(
            m
            for m in reversed(list(self._net.modules()))
            if isinstance(m, nn.Linear) and m.out_features == len(self.classes)
        )

    def features(self, images: Tensor) -> Tensor:
        """What the last layer reads, ``(N, d)``, of images ``(N, 3, H, W)`` in [0, 1]."""
        return self._run(images)[1]

    def __call__(self, images: Tensor) -> ClassJudgement:
        """Look at square images ``(N, 3, H, W)`` in [0, 1]."""
        logits, features = self._run(images)
        sure, index = logits.softmax(-1).max(-1)
        seen = [
            self.classes[i] if p >= self.thresholds["object"] else CANNOT_TELL
            for p, i in zip(sure.tolist(), index.tolist(), strict=True)
        ]
        return ClassJudgement(seen, features)

    @torch.no_grad()
    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features, on the processor."""
        read: list[Tensor] = []
        hook = self._last.register_forward_pre_hook(lambda _, args: read.append(args[0].flatten(1).float().cpu()))
        try:
            logits = [
                self._net(pixel_values=self._ready(part.to(self._device))).logits.float().cpu()
                for part in images.split(BATCH)
            ]
        finally:
            hook.remove()
        return torch.cat(logits), torch.cat(read)


def label_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels' first names in small letters; the whole label where another one begins alike."""
    first = [label.partition(",")[0].strip().lower() for label in labels]
    times = Counter(first)
    return tuple(
        short if times[short] == 1 else label.strip().lower() for short, label in zip(first, labels, strict=True)
    )
