"""The small convolutional image network behind pocket-classifier, pocket's judge and its CLIP image tower."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class _Residual(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation and a shortcut; the first one may halve the resolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)`` to ``(B, C', H/stride, W/stride)``."""
        h = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


class ConvNet(nn.Module):
    """A strided stem, residual blocks that each halve the resolution, and the mean over positions.

    Args:
        widths: channels of the stem and of every residual block.

    Attributes:
        widths: channels of the stem and of every block.
        width: number of features.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 192)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 4, 2, 1)
        self.blocks = nn.Sequential(*(_Residual(a, b, 2) for a, b in pairwise(widths)))
        self.widths = list(widths)
        self.width = widths[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Maps images ``(B, 3, H, W)`` in [0, 1] to features ``(B, width)``."""
        return self.blocks(torch.relu(self.stem(images * 2 - 1))).mean(dim=(2, 3))


class ConvClassifier(nn.Module):
    """The network with one linear layer; the shape of pocket-classifier.

    Args:
        widths: channels of the network.
        num_classes: number of classes.
    """

    def __init__(self, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.features = ConvNet(widths)
        self.head = nn.Linear(self.features.width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images ``(B, 3, H, W)`` in [0, 1] to logits ``(B, num_classes)``."""
        return self.head(self.features(images))  # type: ignore[no-any-return]
