"""Zero-shot classification with a CLIP model (Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.score import DetectorId
from efface.core.serialization import json_hash
from efface.models.model_ref import is_hub_id

from .abstention import CANNOT_TELL

POCKET = "pocket-clip"
TEMPLATE = "a photo of {}"


class Scorer(Protocol):
    """A CLIP model: its score and its two towers."""

    detector: DetectorId

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Computes the CLIP scores ``(N,)`` of images ``(N, 3, H, W)`` in [0, 1] and N prompts."""
        ...

    def image_features(self, images: Tensor) -> Tensor:
        """Embeds images ``(N, 3, H, W)`` in [0, 1]: unit vectors ``(N, d)``."""
        ...

    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """Embeds prompts: unit vectors ``(P, d)``."""
        ...


def load_scorer(name: str, device: torch.device | str = "cpu") -> Scorer:
    """Loads a CLIP score.

    Args:
        name: ``pocket-clip``, a folder with a CLIP model, or a hub id of one.
        device: device to compute on.

    Raises:
        EffaceError: the name is none of these, or the model does not load.
    """
    if name == POCKET:
        from .pocket_clip import load_clip_score

        return load_clip_score(device)
    if not Path(name).is_dir() and not is_hub_id(name):
        raise EffaceError(
            f"{name!r} is no classifier: give {POCKET!r}, a folder with a CLIP model, or a hub id such as org/name"
        )
    from efface.models.hub import pretrained_folder

    from .hf_clip import HFClipScore

    return HFClipScore(pretrained_folder(name), device, "" if Path(name).is_dir() else name)


@dataclass(frozen=True)
class ZeroShotJudgement:
    """The classifier's result for N images; each head is an attribute, too.

    Attributes:
        heads: by head, a class name, or ``"cannot tell"``, for each image.
        features: image embeddings, ``(N, d)``.
    """

    heads: Mapping[str, list[str]]
    features: Tensor

    def __getattr__(self, head: str) -> list[str]:
        if head in self.heads:
            return self.heads[head]
        raise AttributeError(head)


class ZeroShotClassifier:
    """Classifies images by a CLIP model: for each head, the class with the nearest prompt.

    Args:
        scorer: the CLIP model's towers, with ``image_features`` and ``text_features``.
        classes: class names by head; an underscore in a name stands for a space.
        threshold: softmax confidence, of cosines times 100, below which it abstains.
        template: prompt with ``{}`` for the class name.

    Attributes:
        id: name and version of the scorer, with a hash of the prompts.
        thresholds: the threshold by head.
    """

    def __init__(
        self, scorer: Scorer, classes: Mapping[str, Sequence[str]], threshold: float = 0.0, template: str = TEMPLATE
    ) -> None:
        self._scorer = scorer
        self.classes = {head: tuple(names) for head, names in classes.items()}
        self.thresholds = dict.fromkeys(self.classes, threshold)
        prompts = {
            head: [template.replace("{}", name.replace("_", " ")) for name in names]
            for head, names in self.classes.items()
        }
        self._text_features = {head: scorer.text_features(head_prompts) for head, head_prompts in prompts.items()}
        self.id = f"zero-shot-{scorer.detector.id}@{scorer.detector.version}+{json_hash(prompts)[:8]}"

    def features(self, images: Tensor) -> Tensor:
        """Returns the image embeddings, ``(N, d)``, of images ``(N, 3, H, W)`` in [0, 1]."""
        features: Tensor = self._scorer.image_features(images).float().cpu()
        return features

    def __call__(self, images: Tensor) -> ZeroShotJudgement:
        """Classifies images ``(N, 3, H, W)`` in [0, 1]."""
        features = self.features(images)
        labels = {}
        for head, text_features in self._text_features.items():
            confidence, index = (100 * features @ text_features.float().cpu().T).softmax(-1).max(-1)
            pairs = zip(confidence.tolist(), index.tolist(), strict=True)
            labels[head] = [self.classes[head][i] if p >= self.thresholds[head] else CANNOT_TELL for p, i in pairs]
        return ZeroShotJudgement(labels, features)


def class_frequencies(scorer: Scorer, images: Tensor, classes: Sequence[str], template: str = TEMPLATE) -> Tensor:
    """Returns the share of images for which each class has the highest score, ``(K,)``, with the sum 1.

    Args:
        scorer: the CLIP score.
        images: ``(N, 3, H, W)`` in [0, 1].
        classes: K class names.
        template: prompt with ``{}`` for the class name.
    """
    scores = torch.stack([scorer(images, [template.replace("{}", name)] * len(images)) for name in classes])
    return torch.bincount(scores.argmax(0), minlength=len(classes)).double() / len(images)
