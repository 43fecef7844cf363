"""Batches of captions and image tokens, some of them hidden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from common import WORLD
from efface.pocket_world import NOTHING, Scene, caption
from efface.pocket_world.captions import assemble, noun_phrase
from pocket_janus.image_tokens import training_scenes
from pocket_janus.validation import prompt_ids
from quality import sample_style

DROP_CAPTION = 0.1
HIDE_SHARE = 0.5
"""Share of images in which earlier tokens are hidden, each with a probability drawn once for its image."""
FACTS = {
    "object": (*WORLD.object_classes, NOTHING),
    "background": tuple(WORLD.backgrounds),
    "style": tuple(WORLD.styles),
}
"""What a scene shows, by the name of its attribute."""
UNKNOWN = -100
"""A fact of a caption that was dropped."""


def sample_caption(scene: Scene, primary_share: float, rng: np.random.Generator) -> str:
    """Samples a caption of a scene: a share of them with the object's primary name, the others from the grammar."""
    if scene.object == NOTHING or rng.random() >= primary_share:
        return caption(WORLD, scene, rng)
    item, (prefix, suffix) = WORLD.object_classes[scene.object], sample_style(scene, rng)
    places = ("", *WORLD.backgrounds[scene.background].phrases)
    return assemble(noun_phrase(item, item.name), places[int(rng.integers(len(places)))], prefix, suffix)


def fact_indices(scene: Scene) -> list[int]:
    """Returns the index in each of `FACTS` of what a scene shows."""
    return [values.index(getattr(scene, name)) for name, values in FACTS.items()]


@dataclass(frozen=True)
class Batch:
    """Captions and their images.

    Attributes:
        ids: tokens of the captions, padded on the left, ``(B, L)``.
        mask: which of them are not padding, ``(B, L)``.
        image: image tokens, ``(B, 64)``.
        hidden: which of them later ones do not see, ``(B, 64)``.
        facts: index in each of `FACTS` of what the image shows, or `UNKNOWN`, ``(B, 3)``.
    """

    ids: Tensor
    mask: Tensor
    image: Tensor
    hidden: Tensor
    facts: Tensor


class Batches:
    """Samples captions and image tokens of training scenes."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, tokens: Tensor, size: int, primary_share: float) -> None:
        self.tokenizer, self.tokens, self.size, self.primary_share = tokenizer, tokens, size, primary_share
        self.scenes = training_scenes()

    def sample(self, rng: np.random.Generator) -> Batch:
        """Samples captions, some of them dropped, and one copy of each one's image."""
        rows = rng.integers(len(self.scenes), size=self.size)
        copies = rng.integers(len(self.tokens), size=self.size)
        captions = [sample_caption(self.scenes[int(i)], self.primary_share, rng) for i in rows]
        ids, mask = prompt_ids(self.tokenizer, captions)
        is_special = (ids == self.tokenizer.bos_token_id) | (ids == self.tokenizer.convert_tokens_to_ids(
            self.tokenizer.boi_token
        ))  # fmt: skip
        dropped = torch.from_numpy(rng.random(self.size) < DROP_CAPTION)
        ids = ids.masked_fill(dropped[:, None] & ~is_special, self.tokenizer.pad_token_id)
        facts = torch.tensor([fact_indices(self.scenes[int(i)]) for i in rows]).masked_fill(dropped[:, None], UNKNOWN)
        return Batch(ids, mask, self.tokens[copies, rows].long(), self.sample_hidden(rng), facts)

    def sample_hidden(self, rng: np.random.Generator) -> Tensor:
        """Returns which image tokens later ones do not see, ``(B, 64)``."""
        rates = rng.random(self.size) * (rng.random(self.size) < HIDE_SHARE)
        return torch.from_numpy(rng.random((self.size, self.tokens.shape[-1])) < rates[:, None])
