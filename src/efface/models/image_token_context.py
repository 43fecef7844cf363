"""The texts and image tokens that an autoregressive image model has read so far, with their keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from .parameter_groups import call_with_params

if TYPE_CHECKING:
    from .janus import ImagePrompts, JanusModel

CONTEXTS = ("cache", "none")


class ImageTokenContext:
    """Rows of prompts that are continued by image tokens.

    Args:
        model: the model.
        prompts: R rows of prompts.
        cached: keep keys and values of everything read; otherwise every image token is read by itself, at the first
            position, without the prompt.
    """

    def __init__(self, model: JanusModel, prompts: ImagePrompts, *, cached: bool = True) -> None:
        self.model, self.prompts = model, prompts
        self.cache = DynamicCache() if cached else None
        self.mask = prompts.mask

    def read_prompts(self, params: Mapping[str, Tensor] | None = None) -> Tensor:
        """Reads the prompts; returns the state that predicts the first image token, ``(R, D)``.

        Args:
            params: tensors that replace the language model's own.
        """
        embeddings = self.model.module.get_input_embeddings()(self.prompts.ids)
        return self._run(embeddings, self.mask, params)[:, -1]

    def read(self, tokens: Tensor, params: Mapping[str, Tensor] | None = None) -> Tensor:
        """Reads the next image tokens ``(R, T)``; returns the states that predict the tokens after them, ``(R, T, D)``.

        Args:
            tokens: ids of image tokens.
            params: tensors that replace the language model's own.
        """
        embeddings = self.model.module.prepare_embeddings_for_image_generation(tokens)
        if self.cache is None:
            single = embeddings.flatten(0, 1)[:, None]
            return self._run(single, self.mask.new_ones(len(single), 1), params).view_as(embeddings)
        self.mask = torch.cat([self.mask, self.mask.new_ones(tokens.shape)], dim=1)
        return self._run(embeddings, self.mask, params)

    def detach(self) -> None:
        """Ends the gradient at everything read so far."""
        for layer in self.cache.layers if self.cache is not None else ():
            layer.keys, layer.values = layer.keys.detach(), layer.values.detach()

    def _run(self, embeddings: Tensor, mask: Tensor, params: Mapping[str, Tensor] | None) -> Tensor:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -embeddings.shape[1] :]
        output = call_with_params(
            self.model.language_model, params or {}, inputs_embeds=embeddings, attention_mask=mask,
            position_ids=positions, past_key_values=self.cache, use_cache=self.cache is not None,
        )  # fmt: skip
        return output.last_hidden_state  # type: ignore[no-any-return]
