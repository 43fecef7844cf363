"""Semantic guidance of LEDITS++ (arXiv 2311.16711): an edit prompt changes the part of an image that it speaks of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from efface.models.attention_maps import Maps, attention_maps
from efface.models.editable import EditableModel
from efface.models.guidance_hooks import GuidedStep, Rule
from efface.ops.latent_masks import concept_attention, resize_mask


class EditGuidance:
    """A guidance edit that adds s M1 M2 (e_edit - e_0) to the guided prediction.

    M1 holds the pixels with the most attention to the edit's words, M2 those with the largest difference of
    predictions; both are quantiles of each image. The prediction for the edit runs through the model as it is, with the
    erasure.

    Args:
        model: the model.
        edit: the edit's prompt.
        scale: s.
        threshold: share of the pixels outside of each mask, from 0 for none to below 1.
        maps: the attention maps of the model's passes.
    """

    adapter = ""
    gate = None

    def __init__(self, model: EditableModel, edit: str, scale: float, threshold: float, maps: Maps) -> None:
        self.prompts = (edit,)
        self._scale, self._threshold, self._maps = scale, threshold, maps
        tokens = model.tokenize([edit])
        positions = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)[None]
        self._words = (positions >= tokens.start) & (positions < tokens.eos[:, None])
        self._chunk = 2 + sum(len(other.prompts) for other in model.guidance_edits)

    def new_rule(self) -> Rule:
        """Returns the rule for one trajectory."""

        def rule(guided: Tensor, step: GuidedStep) -> Tensor:
            direction = step.extra[0] - step.unconditional
            mask = self._attention_mask(direction) * top_pixels(direction.abs().sum(1), self._threshold)
            return guided + self._scale * mask[:, None].to(direction) * direction

        return rule

    def _attention_mask(self, direction: Tensor) -> Tensor:
        """Returns M1, ``(B, h, w)``."""
        count, _, height, width = direction.shape
        rows = slice(self._chunk * count, (self._chunk + 1) * count)
        maps = {name: layer[rows] for name, layer in self._maps.items()}
        attention = concept_attention(maps, self._words.expand(count, -1), height * width)
        attention = resize_mask(attention.float(), height * width, width / height)
        return top_pixels(attention.view(count, height, width), self._threshold)


def top_pixels(values: Tensor, threshold: float) -> Tensor:
    """Returns 1 where values ``(B, h, w)`` reach their image's quantile, else 0."""
    values = values.float()
    cut = torch.quantile(values.flatten(1), threshold, dim=1)
    return (values >= cut[:, None, None]).float()


@contextmanager
def edit_guidance(model: EditableModel, edit: str, scale: float, threshold: float) -> Iterator[None]:
    """Adds the guidance of an edit to the model's own for the body of a ``with``; see `EditGuidance`."""
    with attention_maps(model) as maps:
        guidance = EditGuidance(model, edit, scale, threshold, maps)
        model.guidance_edits.append(guidance)
        try:
            yield
        finally:
            model.guidance_edits.remove(guidance)
