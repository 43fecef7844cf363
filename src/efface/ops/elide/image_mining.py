"""The words that a concept's images show, read by a CLIP model's image tower.

The original generates the concept's name many times. For each image, CLIP ranks the words of the vocabulary. A word
fits an image if it is among the `RANKS` best and scores at least as high as the concept's own name: the image of an
object fits its name better than a neighbour's. A domain word fits at least `MIN_SHARE` of the images, and `MIN_RATIO`
times as many of them as images of the retain prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from efface.core.concept import Concept, fill_templates
from efface.models.editable import EditableModel
from efface.ops.training.progress import Progress, Silent

from .vocabulary import domain_candidates

RANKS = 5
MIN_SHARE = 1 / 40
MIN_RATIO = 3.0
BATCH = 32


class ImageTextTower(Protocol):
    """The two towers of a CLIP model."""

    def image_features(self, images: Tensor) -> Tensor:
        """Embeds images ``(N, 3, H, W)`` in [0, 1]: ``(N, d)``."""
        ...

    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """Embeds prompts: ``(P, d)``."""
        ...


@torch.no_grad()
def mine_words_from_images(
    model: EditableModel,
    tower: ImageTextTower,
    concept: Concept,
    *,
    num_images: int,
    seed: int,
    progress: Progress | None = None,
) -> list[str]:
    """Returns the domain words of a concept, most frequent first.

    Args:
        model: the original model, which generates the images.
        tower: a CLIP model that knows such images.
        concept: its name fills the first of its templates; its retain prompts give the comparison.
        num_images: images of the concept, and as many of the retain prompts.
        seed: of the first image.
        progress: receives the number of images.
    """
    words = domain_candidates(model, concept)
    prompts = fill_templates([concept.templates[0]], [concept.name, *words])
    texts = normalize(tower.text_features(prompts).float(), dim=-1)
    retained = [prompt for prompt in concept.retain_prompts if prompt]
    shown = [prompts[0]] * num_images + [retained[i % len(retained)] for i in range(num_images if retained else 0)]
    of_concept, of_retained, scale = Counter[str](), Counter[str](), model.default_guidance_scale
    bar = progress or Silent()
    bar.start("reading words from images", len(shown), 0)
    try:
        for start in range(0, len(shown), BATCH):
            batch = shown[start : start + BATCH]
            images = model.sample(batch, seeds=range(seed + start, seed + start + len(batch)), guidance_scale=scale)
            scores = normalize(tower.image_features(images).float(), dim=-1) @ texts.T
            for index, row in enumerate(scores, start):
                counter = of_concept if index < num_images else of_retained
                counter.update(fitting_words(row, words))
            bar.update(start + len(batch), {})
    finally:
        bar.stop()
    least = MIN_SHARE * num_images
    return [word for word, n in of_concept.most_common() if n >= least and n >= MIN_RATIO * of_retained[word]]


def fitting_words(scores: Tensor, words: Sequence[str]) -> list[str]:
    """Returns the words that fit an image: among its `RANKS` best, and at least as good as the name.

    Args:
        scores: of the concept's name, then of each word, ``(1 + W,)``.
        words: W words.
    """
    best = scores[1:].topk(min(RANKS, len(words)))
    return [
        words[i] for value, i in zip(best.values.tolist(), best.indices.tolist(), strict=True) if value >= scores[0]
    ]
