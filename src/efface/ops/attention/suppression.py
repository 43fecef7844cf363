"""Training data and loss that suppress a concept's cross-attention (stage 2 of MACE, arXiv 2403.06135)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.models.protocol import Conditioning
from efface.ops.text.concept_tokens import locate_concept, mention_mask
from efface.ops.training.latents import Latents

from .concept_masks import attention_masks, read_masks, resize_masks


@dataclass(frozen=True)
class SuppressionBatch:
    """Noised images of a concept with a prompt each.

    Attributes:
        z: noised latents, ``(B, C, H, W)``.
        t: timesteps, ``(B,)``.
        cond: conditioning of the prompts.
        masks: pixels of the concept, ``(B, H, W)`` in [0, 1].
        token_mask: tokens of the concept, EOS and padding, bool ``(B, L)``.
    """

    z: Tensor
    t: Tensor
    cond: Conditioning
    masks: Tensor
    token_mask: Tensor


class SuppressionData:
    """Images of one concept, and the prompts that name the concept in each of them.

    Args:
        images: latents of the images; ``prompt_index`` is the index of an image's word.
        words: the concept's words.
        prompts: prompts with the word that each contains. An image trains on the prompts with its word, and on all
            prompts if none has it.
    """

    def __init__(self, images: Latents, words: Sequence[str], prompts: Sequence[tuple[str, str]]) -> None:
        self.model = images.model
        self.images = Latents(images.model, images.x0, torch.arange(len(images.x0)))
        self.prompts_of = [
            [i for i, (_, word) in enumerate(prompts) if word == words[index]] or list(range(len(prompts)))
            for index in images.prompt_index.tolist()
        ]
        phrases = [word for _, word in prompts]
        tokens = locate_concept(images.model, [prompt for prompt, _ in prompts], phrases)
        self.concept_mask = mention_mask(images.model, tokens.tokens, phrases)
        positions = torch.arange(self.concept_mask.shape[1], device=self.concept_mask.device)
        self.token_mask = self.concept_mask | (positions >= tokens.tokens.eos[:, None])
        with torch.no_grad():
            self.cond = images.model.encode(tokens.tokens)
        self.masks = torch.ones(len(images.x0), *images.x0.shape[-2:], device=images.x0.device)

    def read_masks(self, folder: str, concept_index: int, num_concepts: int) -> None:
        """Reads this concept's masks from a folder with all concepts' masks in order (`concept_masks.read_masks`)."""
        count = len(self.masks)
        masks = read_masks(folder, num_concepts * count)[concept_index * count :]
        self.masks = masks[:count].to(self.masks.device)

    def compute_masks(self, generator: torch.Generator, threshold: float) -> None:
        """Computes the masks from the frozen model's attention to the concept (`concept_masks.attention_masks`)."""
        first = torch.tensor([indices[0] for indices in self.prompts_of])
        self.masks = attention_masks(
            self.model, self.images.x0, self.cond[first], self.concept_mask[first], generator, threshold=threshold
        )

    def sample(self, batch_size: int, generator: torch.Generator, density: Tensor | None) -> SuppressionBatch:
        """Samples images, timesteps and noise (`Latents.noised_batch`), and a prompt for each image."""
        z, t, _, images = self.images.noised_batch(batch_size, generator, density)
        fractions = torch.rand(batch_size, generator=generator).tolist()
        candidates = [self.prompts_of[image] for image in images.tolist()]
        pairs = zip(candidates, fractions, strict=True)
        prompts = torch.tensor([indices[int(fraction * len(indices))] for indices, fraction in pairs])
        return SuppressionBatch(z, t, self.cond[prompts], self.masks[images], self.token_mask[prompts])


def suppression_loss(maps: Sequence[Tensor], batch: SuppressionBatch) -> Tensor:
    """Sums the Frobenius norms of the attention from the mask's pixels to the marked tokens over layers; batch mean.

    Args:
        maps: attention probabilities of each layer, ``(B, heads, pixels, L)``.
        batch: masks and marked tokens.
    """
    losses = []
    for layer in maps:
        pixels = resize_masks(batch.masks, layer.shape[2])
        selected = pixels[:, None, :, None] & batch.token_mask[:, None, None, :]
        losses.append((layer * selected).flatten(1).norm(dim=1).mean())
    return torch.stack(losses).sum()
