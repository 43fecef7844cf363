"""The Inception-v3 network that FID is computed with, without its weights.

Architecture: Szegedy et al. 2015, arXiv 1512.00567. FID: Heusel et al. 2017, arXiv 1706.08500. TensorFlow's graph of
2015-12-05 differs from later versions: average pooling ignores the padding, the last block pools by the maximum, and
there are 1,008 classes, which are not built here. Tensor names are those of ``pt_inception-2015-12-05``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

Shape: TypeAlias = "tuple[int, int, int | tuple[int, int], int, int | tuple[int, int]]"
"""Input channels, output channels, kernel, stride, padding."""

POOLS = {
    "average": partial(avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False),
    "maximum": partial(max_pool2d, kernel_size=3, stride=1, padding=1),
    "halve": partial(max_pool2d, kernel_size=3, stride=2),
}


class ConvBlock(nn.Module):
    """A convolution, batch normalization and a ReLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inputs, outputs, kernel, stride, padding = shape
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, inputs, H, W)`` to ``(B, outputs, H', W')``."""
        return self.bn(self.conv(x)).relu()


class MixedBlock(nn.Module):
    """Parallel branches; their outputs are concatenated along the channels.

    Args:
        shapes: the convolutions by name.
        chains: for each branch, the names of its pools and convolutions in order; ``a|b`` applies both to the same
            input and concatenates the outputs.
    """

    def __init__(self, shapes: Mapping[str, Shape], chains: Sequence[str]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.add_module(name, ConvBlock(shape))
        self.chains = [[link.split("|") for link in chain.split()] for chain in chains]

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)`` to ``(B, C', H', W')``."""
        return torch.cat([out for chain in self.chains for out in self._branch(chain, x)], 1)

    def _branch(self, chain: list[list[str]], x: Tensor) -> list[Tensor]:
        outputs = [x]
        for names in chain:
            layers = [POOLS[name] if name in POOLS else self.get_submodule(name) for name in names]
            outputs = [layer(outputs[0]) for layer in layers]
        return outputs


def pointwise(inputs: int, outputs: int) -> Shape:
    """Returns the shape of a 1 x 1 convolution."""
    return inputs, outputs, 1, 1, 0


def same_padding(inputs: int, outputs: int, height: int, width: int) -> Shape:
    """Returns the shape of a convolution that keeps height and width."""
    return inputs, outputs, (height, width), 1, (height // 2, width // 2)


def mixed_5(inputs: int, pooled: int) -> MixedBlock:
    """Returns a block that keeps 35 x 35; ``pooled`` channels come from its pooling branch."""
    shapes = {
        "branch1x1": pointwise(inputs, 64),
        "branch5x5_1": pointwise(inputs, 48), "branch5x5_2": same_padding(48, 64, 5, 5),
        "branch3x3dbl_1": pointwise(inputs, 64), "branch3x3dbl_2": same_padding(64, 96, 3, 3),
        "branch3x3dbl_3": same_padding(96, 96, 3, 3),
        "branch_pool": pointwise(inputs, pooled),
    }  # fmt: skip
    chains = (
        "branch1x1",
        "branch5x5_1 branch5x5_2",
        "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
        "average branch_pool",
    )
    return MixedBlock(shapes, chains)


def mixed_6a() -> MixedBlock:
    """Returns the block from 35 x 35 to 17 x 17."""
    shapes: dict[str, Shape] = {
        "branch3x3": (288, 384, 3, 2, 0),
        "branch3x3dbl_1": pointwise(288, 64), "branch3x3dbl_2": same_padding(64, 96, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 2, 0),
    }  # fmt: skip
    return MixedBlock(shapes, ("branch3x3", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3", "halve"))


def mixed_6(width: int) -> MixedBlock:
    """Returns a block that keeps 17 x 17; its 7 x 7 branches have ``width`` channels inside."""
    shapes = {
        "branch1x1": pointwise(768, 192),
        "branch7x7_1": pointwise(768, width), "branch7x7_2": same_padding(width, width, 1, 7),
        "branch7x7_3": same_padding(width, 192, 7, 1),
        "branch7x7dbl_1": pointwise(768, width), "branch7x7dbl_2": same_padding(width, width, 7, 1),
        "branch7x7dbl_3": same_padding(width, width, 1, 7), "branch7x7dbl_4": same_padding(width, width, 7, 1),
        "branch7x7dbl_5": same_padding(width, 192, 1, 7),
        "branch_pool": pointwise(768, 192),
    }  # fmt: skip
    double = " ".join(f"branch7x7dbl_{i}" for i in range(1, 6))
    return MixedBlock(shapes, ("branch1x1", "branch7x7_1 branch7x7_2 branch7x7_3", double, "average branch_pool"))


def mixed_7a() -> MixedBlock:
    """Returns the block from 17 x 17 to 8 x 8."""
    shapes: dict[str, Shape] = {
        "branch3x3_1": pointwise(768, 192), "branch3x3_2": (192, 320, 3, 2, 0),
        "branch7x7x3_1": pointwise(768, 192), "branch7x7x3_2": same_padding(192, 192, 1, 7),
        "branch7x7x3_3": same_padding(192, 192, 7, 1), "branch7x7x3_4": (192, 192, 3, 2, 0),
    }  # fmt: skip
    return MixedBlock(shapes, ("branch3x3_1 branch3x3_2", " ".join(f"branch7x7x3_{i}" for i in range(1, 5)), "halve"))


def mixed_7(inputs: int, pool: str) -> MixedBlock:
    """Returns a block that keeps 8 x 8; ``pool`` is a key of `POOLS`."""
    shapes = {
        "branch1x1": pointwise(inputs, 320),
        "branch3x3_1": pointwise(inputs, 384),
        "branch3x3_2a": same_padding(384, 384, 1, 3), "branch3x3_2b": same_padding(384, 384, 3, 1),
        "branch3x3dbl_1": pointwise(inputs, 448), "branch3x3dbl_2": same_padding(448, 384, 3, 3),
        "branch3x3dbl_3a": same_padding(384, 384, 1, 3), "branch3x3dbl_3b": same_padding(384, 384, 3, 1),
        "branch_pool": pointwise(inputs, 192),
    }  # fmt: skip
    double = "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a|branch3x3dbl_3b"
    return MixedBlock(shapes, ("branch1x1", "branch3x3_1 branch3x3_2a|branch3x3_2b", double, f"{pool} branch_pool"))


class Inception(nn.Module):
    """The network up to its last pooling, with random weights; attributes bear the names of the published tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBlock((3, 32, 3, 2, 0))
        self.Conv2d_2a_3x3 = ConvBlock((32, 32, 3, 1, 0))
        self.Conv2d_2b_3x3 = ConvBlock(same_padding(32, 64, 3, 3))
        self.Conv2d_3b_1x1 = ConvBlock(pointwise(64, 80))
        self.Conv2d_4a_3x3 = ConvBlock((80, 192, 3, 1, 0))
        self.Mixed_5b = mixed_5(192, 32)
        self.Mixed_5c = mixed_5(256, 64)
        self.Mixed_5d = mixed_5(288, 64)
        self.Mixed_6a = mixed_6a()
        self.Mixed_6b = mixed_6(128)
        self.Mixed_6c = mixed_6(160)
        self.Mixed_6d = mixed_6(160)
        self.Mixed_6e = mixed_6(192)
        self.Mixed_7a = mixed_7a()
        self.Mixed_7b = mixed_7(1280, "average")
        self.Mixed_7c = mixed_7(2048, "maximum")

    def forward(self, x: Tensor) -> Tensor:
        """Maps images ``(B, 3, 299, 299)`` in [-1, 1] to features ``(B, 2048)``."""
        x = POOLS["halve"](self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = POOLS["halve"](self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))
