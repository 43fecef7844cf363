"""Prompts in which a coreferent or a retained word replaces the concept (CRCE, arXiv 2503.14232)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning
from efface.ops.training.trajectory_pool import TrajectoryBatch

from .erase_prompts import ErasePrompts

ENCODE_BATCH = 128
"""Prompts encoded at a time."""


@dataclass(frozen=True)
class WordBatch:
    """Training tuples of a batch, repeated for the words drawn for each.

    Attributes:
        z: noisy latents, ``(B K, C, H, W)``.
        t: timesteps, ``(B K,)``.
        rows: index in the batch of each tuple, ``(B K,)``.
        cond: conditioning of the prompts with the words.
        word_cond: conditioning of the words alone.
        weights: certainties of the words, ``(B K,)``.
    """

    z: Tensor
    t: Tensor
    rows: Tensor
    cond: Conditioning
    word_cond: Conditioning
    weights: Tensor


class CoreferencePrompts:
    """The prompts of a pool with each word in place of the phrase that names the concept, encoded once.

    Args:
        model: the original model.
        erase: the prompts with their phrases.
        words: words with their certainties, for each prompt of the pool.
        draws: number of words drawn for each sample; all, if a concept has fewer.
    """

    def __init__(
        self, model: EditableModel, erase: ErasePrompts, words: Sequence[Mapping[str, float]], draws: int
    ) -> None:
        self.draws = draws
        texts, alone, self.weights = list[str](), list[str](), list[float]()
        self.starts, self.counts = list[int](), [len(found) for found in words]
        for prompt, phrase, found in zip(erase.prompts, erase.phrases, words, strict=True):
            self.starts.append(len(texts))
            for word, weight in found.items():
                texts.append(replace_phrase(prompt, phrase, word))
                alone.append(word)
                self.weights.append(weight)
        self.cond = _encode(model, texts)
        distinct = list(dict.fromkeys(alone))
        self.word_cond = _encode(model, distinct)
        self.word_index = torch.tensor([distinct.index(word) for word in alone])

    def draw(self, batch: TrajectoryBatch, generator: torch.Generator) -> WordBatch:
        """Draws words for each tuple without replacement; ``generator`` is on the CPU."""
        rows, chosen = list[int](), list[int]()
        for row, prompt in enumerate(batch.prompt_index.tolist()):
            order = torch.randperm(self.counts[prompt], generator=generator)[: self.draws].tolist()
            rows += [row] * len(order)
            chosen += [self.starts[prompt] + index for index in order]
        index = torch.tensor(rows, device=batch.z.device)
        picks = torch.tensor(chosen)
        weights = torch.tensor([self.weights[i] for i in chosen], device=batch.z.device, dtype=batch.z.dtype)
        on_device = picks.to(batch.z.device), self.word_index[picks].to(batch.z.device)
        return WordBatch(
            batch.z[index], batch.t[index], index, self.cond[on_device[0]], self.word_cond[on_device[1]], weights
        )


def replace_phrase(prompt: str, phrase: str, word: str) -> str:
    """Replaces a phrase in a prompt, in any case, with its article: "a weapon" becomes "an axe".

    A prompt that describes the concept without the phrase becomes the word alone.
    """
    pattern = re.compile(rf"(?:\b(an?) )?(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE)
    if not pattern.search(prompt):
        return word
    article = "an" if word[:1].lower() in "aeiou" else "a"
    return pattern.sub(lambda found: f"{article} {word}" if found[1] else word, prompt)


@torch.no_grad()
def _encode(model: EditableModel, prompts: Sequence[str]) -> Conditioning:
    """Encodes prompts in batches."""
    starts = range(0, len(prompts), ENCODE_BATCH)
    return Conditioning.cat([model.encode(list(prompts[start : start + ENCODE_BATCH])) for start in starts])
