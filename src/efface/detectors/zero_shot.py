"""Which of some words a picture fits best, by a CLIP score: a classifier without training (Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from efface.core.errors import EffaceError

POCKET = "pocket-clip"
Scorer = Callable[[Tensor, Sequence[str]], Tensor]


def load_scorer(name: str, device: torch.device | str = "cpu") -> Scorer:
    """``pocket-clip``, or the CLIP model in a folder.

    Raises:
        EffaceError: neither.
    """
    if name == POCKET:
        from .clip_score import load_clip_score

        return load_clip_score(device)
    if not Path(name).is_dir():
        raise EffaceError(f"{name!r} is no classifier: give {POCKET!r}, or a folder with a CLIP model")
    from .clip_model import ClipModelScore

    return ClipModelScore(name, device)


def shares(scorer: Scorer, images: Tensor, words: Sequence[str], template: str = "a photo of {}") -> Tensor:
    """How often each of the words is the one that fits best: ``(n,)``, with the sum 1.

    Args:
        scorer: images ``(N, 3, H, W)`` in [0, 1] and a text for each to scores ``(N,)``.
        images: the pictures.
        words: the classes.
        template: a sentence around a word.
    """
    scores = torch.stack([scorer(images, [template.replace("{}", word)] * len(images)) for word in words])
    return torch.bincount(scores.argmax(0), minlength=len(words)).double() / len(images)
