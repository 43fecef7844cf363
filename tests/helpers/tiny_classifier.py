"""A tiny classifier of four colours, trained in a moment, and folders of images for it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from efface.models.classifier import ClassifierModel

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 60, 220), "grey": (128, 128, 128)}
SIDE = 8


def transform(image: Image.Image) -> Tensor:
    pixels = np.array(image.convert("RGB").resize((SIDE, SIDE)))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


class ColourNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.Linear(12, len(COLOURS))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(images))).mean((2, 3)))


def draw(colour: str, seed: int) -> Image.Image:
    rng = np.random.default_rng([list(COLOURS).index(colour), seed])
    pixels = np.array(COLOURS[colour]) + rng.normal(0, 25, (SIDE, SIDE, 3)) + rng.normal(0, 15, 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write_images(folder: Path, per_class: int, first_seed: int = 0) -> Path:
    """Writes a folder with one subfolder of images a colour."""
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True)
        for seed in range(per_class):
            draw(colour, first_seed + seed).save(folder / colour / f"{seed}.png")
    return folder


@cache
def _trained() -> dict[str, Tensor]:
    torch.manual_seed(0)
    net = ColourNet()
    images = torch.stack([transform(draw(colour, seed)) for colour in COLOURS for seed in range(20)])
    labels = torch.arange(len(COLOURS)).repeat_interleave(20)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(40):
        loss = nn.functional.cross_entropy(net(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.state_dict()


def tiny_classifier(dtype: torch.dtype = torch.float32) -> ClassifierModel:
    """A trained network of 12 channels with batch normalisation, new every time."""
    net = ColourNet()
    net.load_state_dict(_trained())
    return ClassifierModel(net.to(dtype), transform, tuple(COLOURS), "colours")
