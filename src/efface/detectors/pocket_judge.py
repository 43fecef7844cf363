"""Pocket's judge: which object, background and style a 64 x 64 image shows, and when it cannot tell.

Trained on renderings of the world only, never on generated images. Its error rates, on fresh renderings and on destroyed
images, are stored in its ``config.json``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from efface.models.loading import bundled_folder
from efface.pocket_world import World, load_world

from .convnet import ConvNet

HEADS = ("object", "background", "style")
CANNOT_TELL = "cannot tell"


def head_classes(world: World) -> dict[str, tuple[str, ...]]:
    """The classes of each head, in the order of its outputs."""
    return {"object": world.objects, "background": tuple(world.backgrounds), "style": tuple(world.styles)}


class JudgeNet(nn.Module):
    """One convolutional network with a linear head each for object, background and style."""

    def __init__(self, widths: Sequence[int], classes: dict[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.features = ConvNet(widths)
        self.heads = nn.ModuleDict(
            {head: nn.Linear(self.features.width, len(names)) for head, names in classes.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images ``(B, 3, 64, 64)`` in [0, 1] to logits ``(B, classes)`` by head."""
        return self.logits(self.features(images))

    def logits(self, features: Tensor) -> dict[str, Tensor]:
        """Features ``(B, width)`` to logits ``(B, classes)`` by head."""
        return {head: layer(features) for head, layer in self.heads.items()}


@dataclass(frozen=True)
class Judgement:
    """What the judge saw in one batch: class names by image (or ``"cannot tell"``), the confidence behind them, and its features."""

    object: list[str]
    background: list[str]
    style: list[str]
    confidence: dict[str, Tensor]
    features: Tensor


class Judge:
    """The judge with its calibrated thresholds.

    Attributes:
        id: detector id with version, to be named beside every score.
        thresholds: by head, the softmax confidence below which the judge says "cannot tell".
        measured: its error rates as measured when it was made.
    """

    def __init__(self, net: JudgeNet, config: dict[str, Any]) -> None:
        self.net = net.eval().requires_grad_(False)
        self.id = f"{config['id']}@{config['version']}"
        self.thresholds: dict[str, float] = config["thresholds"]
        self.measured: dict[str, Any] = config.get("measured", {})
        self.classes = head_classes(load_world())

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Read the judge from ``folder`` (``config.json`` and ``model.safetensors``)."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        net = JudgeNet(config["widths"], head_classes(load_world()))
        net.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()}, strict=False)
        return cls(net, config)

    @torch.no_grad()
    def features(self, images: Tensor, batch: int = 128) -> Tensor:
        """Features ``(N, width)`` of images ``(N, 3, 64, 64)`` in [0, 1]: what FID and KID are computed on."""
        return torch.cat([self.net.features(part) for part in images.split(batch)])

    def probabilities(self, features: Tensor) -> dict[str, Tensor]:
        """Softmax probabilities ``(N, classes)`` by head, from features ``(N, width)``."""
        return {head: logits.softmax(-1) for head, logits in self.net.logits(features).items()}

    def __call__(self, images: Tensor) -> Judgement:
        """Judge images ``(N, 3, 64, 64)`` in [0, 1]."""
        seen: dict[str, list[str]] = {}
        confidence: dict[str, Tensor] = {}
        features = self.features(images)
        for head, p in self.probabilities(features).items():
            confidence[head], index = p.max(-1)
            sure = (confidence[head] >= self.thresholds[head]).tolist()
            seen[head] = [
                self.classes[head][i] if ok else CANNOT_TELL for i, ok in zip(index.tolist(), sure, strict=True)
            ]
        return Judgement(seen["object"], seen["background"], seen["style"], confidence, features)


def load_judge() -> Judge:
    """Pocket's judge."""
    return Judge.load(bundled_folder("pocket") / "judge")
