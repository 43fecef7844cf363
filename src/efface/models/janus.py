"""The adapter of Janus-type models (DeepSeek's Janus-Pro, arXiv 2501.17811): a language model that writes image tokens.

A Llama reads the prompt and continues it by image tokens, whose embeddings, head and codebook are their own; a VQ
decoder turns them into pixels. There is no denoiser and no text encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from efface.core.errors import EffaceError
from efface.core.manifest import LANGUAGE_COMPONENT
from efface.core.policy import check_prompts

from .conditioning import Tokens
from .fingerprint import fingerprint
from .guidance_hooks import GuidanceEdit
from .image_token_sampling import sample_image_tokens
from .language_layers import select_role
from .parameter_groups import ParameterGroup

FAMILY = "janus"
_PARTS = ("generation_embeddings", "generation_aligner", "generation_head", "vqmodel")
_DEFAULT_GUIDANCE_SCALE = 5.0
_MAX_PIXELS = 2**20
"""Pixels of the images that `sample` generates at a time by default."""


@dataclass(frozen=True)
class ImagePrompts:
    """Prompts, each with the token that starts an image behind, padded on the left.

    Attributes:
        ids: token ids, ``(B, L)``.
        mask: 1 for tokens, 0 for padding, ``(B, L)``.
    """

    ids: Tensor
    mask: Tensor


class JanusModel:
    """A Janus-type model and its tokenizer behind the model protocol, without the denoiser's part of it.

    Args:
        module: transformers' ``JanusForConditionalGeneration``, in evaluation mode from here on.
        tokenizer: its tokenizer or processor, with a ``boi_token``.
        name: the model's name in results.

    Raises:
        EffaceError: the tokenizer has no token that starts an image, or none for padding.
    """

    family = FAMILY
    prediction_guidance_scale = None

    def __init__(self, module: nn.Module, tokenizer: Any, name: str) -> None:
        self.module: Any = module.eval().requires_grad_(False)
        self.tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        self.name, self.pipe = name, module
        self.guidance_edits: list[GuidanceEdit] = []
        inner: Any = self.module.model
        self.language_model: Any = inner.language_model
        self.components: dict[str, nn.Module] = {LANGUAGE_COMPONENT: self.language_model}
        self.components |= {part: getattr(inner, part) for part in _PARTS}
        self._start_of_image = str(getattr(self.tokenizer, "boi_token", None) or "")
        if not self._start_of_image or self.tokenizer.pad_token_id is None:
            raise EffaceError(
                f"the tokenizer of {name} has no boi_token (start of an image) or no pad_token: "
                "save the model with its own processor"
            )

    @property
    def device(self) -> torch.device:
        """The device that the model computes on."""
        return next(self.language_model.parameters()).device

    @property
    def num_image_tokens(self) -> int:
        """Number of tokens of an image."""
        return int(self.module.config.vision_config.num_image_tokens)

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        own = getattr(self.module.model.vqmodel, "image_size", None)
        config = self.module.config.vq_config
        return int(own or config.num_patches * 2 ** (len(config.channel_multiplier) - 1))

    @property
    def default_guidance_scale(self) -> float:
        """Guidance scale of images that a check generates."""
        return float(self.module.generation_config.guidance_scale or _DEFAULT_GUIDANCE_SCALE)

    @property
    def default_batch_size(self) -> int:
        """Number of images that `sample` generates at a time by default, at most 16."""
        return max(1, min(16, _MAX_PIXELS // self.image_size**2))

    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """Returns the fingerprint of every component."""
        return {name: fingerprint(module) for name, module in self.components.items()}

    def parameter_group(self, role: str) -> ParameterGroup:
        """Returns the language model's parameters of a role, such as ``attn:0-4`` (`language_layers.ROLES`)."""
        return select_role(self.language_model, role)

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Tokenizes prompts that the content policy allows, without the words of a chat; pads on the right."""
        check_prompts(prompts)
        rows = [self.tokenizer(prompt).input_ids for prompt in prompts]
        start = int(rows[0][:1] == [self.tokenizer.bos_token_id])
        width, pad = max(map(len, rows)) + 1, int(self.tokenizer.pad_token_id)
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self.device)
        eos = torch.tensor([len(row) for row in rows], device=self.device)
        mask = (torch.arange(width, device=self.device) <= eos[:, None]).long()
        return Tokens(ids, mask, eos, start)

    def truncated_text(self, prompts: Sequence[str]) -> dict[str, str]:
        """Returns no text: prompts have no length limit of their own."""
        return {}

    def detokenize(self, ids: Sequence[int]) -> str:
        """Converts token ids to text."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def image_prompts(self, prompts: Sequence[str]) -> ImagePrompts:
        """Tokenizes prompts in the model's chat template, if it has one, with the start of an image behind."""
        check_prompts(prompts)
        texts = [self._in_chat_template(prompt) + self._start_of_image for prompt in prompts]
        tokens = self.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        return ImagePrompts(tokens.input_ids.to(self.device), tokens.attention_mask.to(self.device))

    def guided_prompts(self, prompts: Sequence[str], extra: Sequence[Sequence[str]] = ()) -> ImagePrompts:
        """Returns rows for B prompts, for their unconditional twins, and for further lists of B prompts.

        An unconditional twin has padding in place of every token but the first one and the start of an image.
        """
        rows = self.image_prompts([*prompts, *(prompt for group in extra for prompt in group)])
        ids, mask = rows.ids[: len(prompts)], rows.mask[: len(prompts)]
        kept = (self.tokenizer.bos_token_id, self.tokenizer.convert_tokens_to_ids(self._start_of_image))
        empty = ids.masked_fill((ids != kept[0]) & (ids != kept[1]), int(self.tokenizer.pad_token_id))
        further = (rows.ids[len(prompts) :], rows.mask[len(prompts) :])
        return ImagePrompts(torch.cat([ids, empty, further[0]]), torch.cat([mask, mask, further[1]]))

    def image_logits(self, states: Tensor) -> Tensor:
        """Returns the logits of the next image token for states ``(..., D)``."""
        return self.module.model.generation_head(states)  # type: ignore[no-any-return]

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        num_inference_steps: int = 0,
        guidance_scale: float | None = None,
        batch_size: int | None = None,
        soft: Any = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Generates one image ``(3, H, W)`` in [0, 1] for each prompt and seed; the number of steps has no meaning.

        Raises:
            EffaceError: soft tokens, which need a text encoder.
        """
        if soft is not None:
            raise EffaceError(f"{self.name} has no text encoder, so that it takes no soft tokens")
        scale = self.default_guidance_scale if guidance_scale is None else guidance_scale
        size, images = batch_size or self.default_batch_size, []
        for start in range(0, len(prompts), size):
            batch = prompts[start : start + size]
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + size]]
            tokens = sample_image_tokens(self, batch, generators, guidance_scale=scale).tokens
            images.append(self.decode(tokens))
            if progress:
                progress(len(batch))
        return torch.cat(images)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Decodes image tokens ``(B, N)`` to images ``(B, 3, H, W)`` in [0, 1]."""
        return (self.module.model.vqmodel.decode(z).float() / 2 + 0.5).clamp(0, 1)

    def _in_chat_template(self, prompt: str) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            return prompt
        messages = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
        return str(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
