"""Inception-v3 as FID is computed on it (Szegedy et al. 2015, arXiv 1512.00567; Heusel et al. 2017, arXiv 1706.08500): the network alone.

TensorFlow's graph of 2015-12-05 differs from later ones: its average pools do not count the padding, the pool of the last block is a
maximum, and it has 1,008 classes, of which nothing is read here. Tensor names are those of ``pt_inception-2015-12-05``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

Shape: TypeAlias = "tuple[int, int, int | tuple[int, int], int, int | tuple[int, int]]"
"""Channels in and out, kernel, stride, padding."""

POOLS = {
    "average": partial(avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False),
    "maximum": partial(max_pool2d, kernel_size=3, stride=1, padding=1),
    "halve": partial(max_pool2d, kernel_size=3, stride=2),
}


class Conv(nn.Module):
    """A convolution, its batch norm, a ReLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inputs, outputs, kernel, stride, padding = shape
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, outputs, H', W')``."""
        return self.bn(self.conv(x)).relu()


class Mixed(nn.Module):
    """Branches side by side: each is a chain of pools and convolutions, by name; two names in one place are a fork."""

    def __init__(self, shapes: Mapping[str, Shape], chains: Sequence[str]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.add_module(name, Conv(shape))
        self.chains = [[link.split("|") for link in chain.split()] for chain in chains]

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C', H', W')``."""
        return torch.cat([out for chain in self.chains for out in self._branch(chain, x)], 1)

    def _branch(self, chain: list[list[str]], x: Tensor) -> list[Tensor]:
        outs = [x]
        for names in chain:
            outs = [POOLS[name](outs[0]) if name in POOLS else self.get_submodule(name)(outs[0]) for name in names]
        return outs


def one(inputs: int, outputs: int) -> Shape:
    """A convolution of single pixels."""
    return inputs, outputs, 1, 1, 0


def wide(inputs: int, outputs: int, height: int, width: int) -> Shape:
    """A convolution that keeps the size."""
    return inputs, outputs, (height, width), 1, (height // 2, width // 2)


def block_5(inputs: int, pooled: int) -> Mixed:
    """35 x 35."""
    shapes = {
        "branch1x1": one(inputs, 64), "branch5x5_1": one(inputs, 48), "branch5x5_2": wide(48, 64, 5, 5),
        "branch3x3dbl_1": one(inputs, 64), "branch3x3dbl_2": wide(64, 96, 3, 3), "branch3x3dbl_3": wide(96, 96, 3, 3),
        "branch_pool": one(inputs, pooled),
    }  # fmt: skip
    chains = (
        "branch1x1",
        "branch5x5_1 branch5x5_2",
        "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
        "average branch_pool",
    )
    return Mixed(shapes, chains)


def block_6a() -> Mixed:
    """35 x 35 to 17 x 17."""
    shapes: dict[str, Shape] = {
        "branch3x3": (288, 384, 3, 2, 0), "branch3x3dbl_1": one(288, 64), "branch3x3dbl_2": wide(64, 96, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 2, 0),
    }  # fmt: skip
    return Mixed(shapes, ("branch3x3", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3", "halve"))


def block_6(c: int) -> Mixed:
    """17 x 17."""
    shapes = {
        "branch1x1": one(768, 192),
        "branch7x7_1": one(768, c), "branch7x7_2": wide(c, c, 1, 7), "branch7x7_3": wide(c, 192, 7, 1),
        "branch7x7dbl_1": one(768, c), "branch7x7dbl_2": wide(c, c, 7, 1), "branch7x7dbl_3": wide(c, c, 1, 7),
        "branch7x7dbl_4": wide(c, c, 7, 1), "branch7x7dbl_5": wide(c, 192, 1, 7),
        "branch_pool": one(768, 192),
    }  # fmt: skip
    double = " ".join(f"branch7x7dbl_{i}" for i in range(1, 6))
    return Mixed(shapes, ("branch1x1", "branch7x7_1 branch7x7_2 branch7x7_3", double, "average branch_pool"))


def block_7a() -> Mixed:
    """17 x 17 to 8 x 8."""
    shapes: dict[str, Shape] = {
        "branch3x3_1": one(768, 192), "branch3x3_2": (192, 320, 3, 2, 0),
        "branch7x7x3_1": one(768, 192), "branch7x7x3_2": wide(192, 192, 1, 7), "branch7x7x3_3": wide(192, 192, 7, 1),
        "branch7x7x3_4": (192, 192, 3, 2, 0),
    }  # fmt: skip
    return Mixed(shapes, ("branch3x3_1 branch3x3_2", " ".join(f"branch7x7x3_{i}" for i in range(1, 5)), "halve"))


def block_7(inputs: int, pool: str) -> Mixed:
    """8 x 8."""
    shapes = {
        "branch1x1": one(inputs, 320),
        "branch3x3_1": one(inputs, 384), "branch3x3_2a": wide(384, 384, 1, 3), "branch3x3_2b": wide(384, 384, 3, 1),
        "branch3x3dbl_1": one(inputs, 448), "branch3x3dbl_2": wide(448, 384, 3, 3),
        "branch3x3dbl_3a": wide(384, 384, 1, 3), "branch3x3dbl_3b": wide(384, 384, 3, 1),
        "branch_pool": one(inputs, 192),
    }  # fmt: skip
    double = "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a|branch3x3dbl_3b"
    return Mixed(shapes, ("branch1x1", "branch3x3_1 branch3x3_2a|branch3x3_2b", double, f"{pool} branch_pool"))


class Inception(nn.Module):
    """The network up to its last pooling, with random weights."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3 = (
            Conv((3, 32, 3, 2, 0)),
            Conv((32, 32, 3, 1, 0)),
            Conv(wide(32, 64, 3, 3)),
        )
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Conv(one(64, 80)), Conv((80, 192, 3, 1, 0))
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = block_5(192, 32), block_5(256, 64), block_5(288, 64)
        self.Mixed_6a = block_6a()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (
            block_6(128),
            block_6(160),
            block_6(160),
            block_6(192),
        )
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = block_7a(), block_7(1280, "average"), block_7(2048, "maximum")

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, 3, 299, 299)``, scaled, to features ``(B, 2048)``."""
        x = POOLS["halve"](self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = POOLS["halve"](self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))
