"""Pocket's judge: classifies object, background and style of a 64 x 64 image, and abstains below a threshold.

It was trained on renderings of the world only, never on generated images. Its error rates on fresh renderings and on
destroyed images are in its ``config.json``.
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

from efface.models.convnet import ConvNet
from efface.models.image_checks import check_finite
from efface.models.model_ref import bundled_folder
from efface.pocket_world import World, load_world

from .abstention import CANNOT_TELL

HEADS = ("object", "background", "style")


def head_classes(world: World) -> dict[str, tuple[str, ...]]:
    """Returns the classes of each head, in the order of its logits."""
    return {"object": world.objects, "background": tuple(world.backgrounds), "style": tuple(world.styles)}


class JudgeNet(nn.Module):
    """A convolutional network with one linear head each for object, background and style.

    Args:
        widths: channels of the network.
        classes: class names by head.
    """

    def __init__(self, widths: Sequence[int], classes: dict[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.features = ConvNet(widths)
        self.heads = nn.ModuleDict(
            {head: nn.Linear(self.features.width, len(names)) for head, names in classes.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps images ``(B, 3, 64, 64)`` in [0, 1] to logits ``(B, classes)`` by head."""
        return self.logits(self.features(images))

    def logits(self, features: Tensor) -> dict[str, Tensor]:
        """Maps features ``(B, width)`` to logits ``(B, classes)`` by head."""
        return {head: layer(features) for head, layer in self.heads.items()}


@dataclass(frozen=True)
class Judgement:
    """The judge's result for N images.

    Attributes:
        object: a class name, or ``"cannot tell"``, for each image.
        background: likewise.
        style: likewise.
        confidence: softmax confidence by head, ``(N,)``.
        features: input of the heads, ``(N, width)``.
    """

    object: list[str]
    background: list[str]
    style: list[str]
    confidence: dict[str, Tensor]
    features: Tensor


class Judge:
    """The judge with its calibrated thresholds.

    Args:
        net: the network with its weights.
        config: id, version, thresholds and measured error rates.

    Attributes:
        id: name and version of the detector, which every score records.
        thresholds: by head, the softmax confidence below which the judge abstains.
        measured: its error rates, measured after training.
        classes: class names by head.
    """

    def __init__(self, net: JudgeNet, config: dict[str, Any]) -> None:
        self.net = net.eval().requires_grad_(False)
        self.id = f"{config['id']}@{config['version']}"
        self.thresholds: dict[str, float] = config["thresholds"]
        self.measured: dict[str, Any] = config.get("measured", {})
        self.classes = head_classes(load_world())

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Loads the judge from ``config.json`` and ``model.safetensors`` in a folder."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        net = JudgeNet(config["widths"], head_classes(load_world()))
        net.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()}, strict=False)
        return cls(net, config)

    @torch.no_grad()
    def features(self, images: Tensor, batch_size: int = 128) -> Tensor:
        """Maps images ``(N, 3, 64, 64)`` in [0, 1] to features ``(N, width)``, for FID and KID, too."""
        return torch.cat([self.net.features(batch) for batch in check_finite(images).split(batch_size)])

    def probabilities(self, features: Tensor) -> dict[str, Tensor]:
        """Maps features ``(N, width)`` to softmax probabilities ``(N, classes)`` by head."""
        return {head: logits.softmax(-1) for head, logits in self.net.logits(features).items()}

    def __call__(self, images: Tensor) -> Judgement:
        """Classifies images ``(N, 3, 64, 64)`` in [0, 1]."""
        labels: dict[str, list[str]] = {}
        confidence: dict[str, Tensor] = {}
        features = self.features(images)
        for head, p in self.probabilities(features).items():
            confidence[head], index = p.max(-1)
            confident = (confidence[head] >= self.thresholds[head]).tolist()
            labels[head] = [
                self.classes[head][i] if ok else CANNOT_TELL for i, ok in zip(index.tolist(), confident, strict=True)
            ]
        return Judgement(labels["object"], labels["background"], labels["style"], confidence, features)


def load_judge() -> Judge:
    """Loads pocket's judge."""
    return Judge.load(bundled_folder("pocket") / "judge")
