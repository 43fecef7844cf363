"""Which of some words an image fits best, by a CLIP score: a classifier without training (Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.serialization import json_hash
from efface.models.loading import is_hub_id

from .pocket_judge import CANNOT_TELL

POCKET = "pocket-clip"
TEMPLATE = "a photo of {}"
Scorer = Callable[[Tensor, Sequence[str]], Tensor]


def load_scorer(name: str, device: torch.device | str = "cpu") -> Scorer:
    """``pocket-clip``, or the CLIP model in a folder or of a hub id.

    Raises:
        EffaceError: none of them.
    """
    if name == POCKET:
        from .pocket_clip import load_clip_score

        return load_clip_score(device)
    if not Path(name).is_dir() and not is_hub_id(name):
        raise EffaceError(
            f"{name!r} is no classifier: give {POCKET!r}, a folder with a CLIP model, or a hub id such as org/name"
        )
    from efface.models.hub import model_folder

    from .hf_clip import ClipModelScore

    return ClipModelScore(model_folder(name), device, "" if Path(name).is_dir() else name)


@dataclass(frozen=True)
class ZeroShotJudgement:
    """What was seen in one batch: by head, class names (or ``"cannot tell"``); and the image embeddings, ``(N, d)``."""

    heads: Mapping[str, list[str]]
    features: Tensor

    def __getattr__(self, head: str) -> list[str]:
        if head in self.heads:
            return self.heads[head]
        raise AttributeError(head)


class ZeroShot:
    """Looks at images by a CLIP model: of a head's words, the one that fits best.

    Args:
        scorer: the towers, with ``image_features`` and ``text_features``.
        classes: by head, the words; an underscore stands for a space.
        threshold: the softmax confidence, of cosines times 100, below which it cannot tell.
        template: a sentence around a word.
    """

    def __init__(
        self, scorer: Any, classes: Mapping[str, Sequence[str]], threshold: float = 0.0, template: str = TEMPLATE
    ) -> None:
        self._scorer, self.classes = scorer, {head: tuple(words) for head, words in classes.items()}
        self.thresholds = dict.fromkeys(self.classes, threshold)
        words = {
            head: [template.replace("{}", word.replace("_", " ")) for word in own] for head, own in self.classes.items()
        }
        self._texts = {head: scorer.text_features(own) for head, own in words.items()}
        self.id = f"zero-shot-{scorer.detector.id}@{scorer.detector.version}+{json_hash(words)[:8]}"

    def features(self, images: Tensor) -> Tensor:
        """The image embeddings, ``(N, d)``, of images ``(N, 3, H, W)`` in [0, 1]."""
        found: Tensor = self._scorer.image_features(images).float().cpu()
        return found

    def __call__(self, images: Tensor) -> ZeroShotJudgement:
        """Look at images ``(N, 3, H, W)`` in [0, 1]."""
        features, seen = self.features(images), {}
        for head, texts in self._texts.items():
            sure, index = (100 * features @ texts.float().cpu().T).softmax(-1).max(-1)
            pairs = zip(sure.tolist(), index.tolist(), strict=True)
            seen[head] = [self.classes[head][i] if p >= self.thresholds[head] else CANNOT_TELL for p, i in pairs]
        return ZeroShotJudgement(seen, features)


def class_frequencies(scorer: Scorer, images: Tensor, words: Sequence[str], template: str = TEMPLATE) -> Tensor:
    """How often each of the words is the one that fits best: ``(n,)``, with the sum 1.

    Args:
        scorer: images ``(N, 3, H, W)`` in [0, 1] and a text for each to scores ``(N,)``.
        images: the images.
        words: the classes.
        template: a sentence around a word.
    """
    scores = torch.stack([scorer(images, [template.replace("{}", word)] * len(images)) for word in words])
    return torch.bincount(scores.argmax(0), minlength=len(words)).double() / len(images)
