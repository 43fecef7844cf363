"""The text side of Stable Diffusion: one CLIP text encoder, or SDXL's two with one vocabulary.

SDXL's encoders read the same tokens and differ in their padding only: the first pads with end-of-text, the second
with a token of its own. So one `Tokens` serves both, and each encoder writes its own padding into it. A tensor as
wide as a state or a token embedding holds the first encoder's part and then the second's: the hidden states that the
denoiser reads, and the embeddings of a soft prompt.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from efface.core.errors import EffaceError
from efface.core.policy import check_prompts

from .parameter_groups import call_with_params, component_params
from .protocol import Conditioning, Params, Tokens
from .soft_prompt import SoftTokens, inject_soft_tokens, token_embedding
from .subword_fragments import END, nonword_tokens


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder with its tokenizer.

    Attributes:
        component: the component's name, ``text_encoder`` or ``text_encoder_2``.
        tokenizer: its tokenizer.
        module: the encoder.
    """

    component: str
    tokenizer: Any
    module: nn.Module

    @property
    def width(self) -> int:
        """Width of a token embedding."""
        weight = token_embedding(self.module).weight
        return int(weight.shape[1])  # type: ignore[index, union-attr]

    def padded_ids(self, tokens: Tokens) -> Tensor:
        """Returns the token ids ``(B, L)`` with this encoder's padding after the first end-of-text token."""
        is_padding = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)[None] > tokens.eos[:, None]
        return torch.where(is_padding, self.tokenizer.pad_token_id, tokens.ids)


class PromptEncoder:
    """The part of a model that reads prompts; an adapter inherits it, and sets its text encoders and device.

    Attributes:
        encoders: one text encoder, or SDXL's two. With two, the states are those before the last layer, and the
            pooled state is the second encoder's projected one.
    """

    encoders: tuple[TextEncoder, ...]

    @property
    def device(self) -> torch.device:
        """The device that the model computes on."""
        raise NotImplementedError

    def truncated_text(self, prompts: Sequence[str]) -> dict[str, str]:
        """Returns, by prompt, the text beyond the context length; prompts that fit are absent."""
        tokenizer = self.encoders[0].tokenizer
        rows = tokenizer(list(prompts), truncation=False, verbose=False).input_ids
        length = tokenizer.model_max_length
        return {
            prompt: tokenizer.decode(row[length - 1 : -1])
            for prompt, row in zip(prompts, rows, strict=True)
            if len(row) > length
        }

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Tokenizes prompts, padded to the context length; warns once when prompts are too long.

        Raises:
            ContentPolicyError: the content policy refuses a prompt.
        """
        check_prompts(prompts)
        tokenizer = self.encoders[0].tokenizer
        length = tokenizer.model_max_length
        if truncated := self.truncated_text(prompts):
            prompt, lost = next(iter(truncated.items()))
            count = f" (one of {len(truncated)})" if len(truncated) > 1 else ""
            warnings.warn(
                f"the prompt {prompt!r} is longer than {length - 2} tokens{count}; cut off: {lost!r}", stacklevel=2
            )
        batch = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        ids = batch.input_ids.to(self.device)
        eos = (ids == tokenizer.eos_token_id).int().argmax(-1)
        mask = (torch.arange(length, device=ids.device)[None] <= eos[:, None]).long()
        return Tokens(ids, mask, eos)

    def vocabulary_words(self, *, whole_only: bool = False) -> list[str]:
        """Returns the tokens that end a word, as sorted text without the end-of-word marker.

        Args:
            whole_only: leave out tokens that only end longer words (see `nonword_tokens`).
        """
        tokenizer = self.encoders[0].tokenizer
        words = {token.removesuffix(END) for token in tokenizer.get_vocab() if token.endswith(END)}
        return sorted(words - nonword_tokens(tokenizer) if whole_only else words)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Converts token ids to text that a user could type."""
        return str(self.encoders[0].tokenizer.decode(list(ids))).strip()

    def encode(
        self, prompts: Sequence[str] | Tokens, *, soft: Tensor | SoftTokens | None = None, params: Params | None = None
    ) -> Conditioning:
        """Encodes prompts, differentiably.

        Args:
            prompts: B prompts, or tokens from `tokenize`, also fewer than the context length.
            soft: embeddings ``(B or 1, k, D)`` to insert after BOS, which moves the last k tokens out of the context;
                or `SoftTokens`, which replace the tokens at their mask. With two encoders D is the sum of both
                widths.
            params: tensors by parameter name that replace the text encoder's own; names of the second encoder's
                parameters have the prefix ``text_encoder_2.``.
        """
        tokens = prompts if isinstance(prompts, Tokens) else self.tokenize(prompts)
        if len(self.encoders) == 1:
            out = _run(self.encoders[0], tokens.ids, soft, params)
            return Conditioning(out.last_hidden_state, out.pooler_output)
        states, start, out = [], 0, None
        for encoder in self.encoders:
            columns = slice(start, start + encoder.width)
            out = _run(
                encoder, encoder.padded_ids(tokens), _soft_columns(soft, columns), params, output_hidden_states=True
            )
            states.append(out.hidden_states[-2])
            start = columns.stop
        return Conditioning(torch.cat(states, dim=-1), out.text_embeds)


def check_same_vocabulary(encoders: tuple[TextEncoder, ...]) -> tuple[TextEncoder, ...]:
    """Returns the encoders if their tokenizers share one vocabulary and context length.

    Raises:
        EffaceError: they do not.
    """
    first = encoders[0].tokenizer
    for other in (encoder.tokenizer for encoder in encoders[1:]):
        if other.get_vocab() != first.get_vocab() or other.model_max_length != first.model_max_length:
            raise EffaceError(
                "the model's two tokenizers have different vocabularies or lengths: efface writes one prompt for both"
            )
    return encoders


def set_end_of_text(encoders: Iterable[TextEncoder]) -> None:
    """Makes each encoder take the pooled state at its tokenizer's end-of-text token.

    Published configurations say ``eos_token_id`` 2, with which transformers takes the largest id instead: an added
    token's, where a prompt has one. With any id that the tokenizer does not write it takes the first token's state.
    """
    for encoder in encoders:
        for module in encoder.module.modules():
            for owner in (module, getattr(module, "config", None)):
                if hasattr(owner, "eos_token_id"):
                    owner.eos_token_id = encoder.tokenizer.eos_token_id  # type: ignore[union-attr]


def _run(
    encoder: TextEncoder, ids: Tensor, soft: Tensor | SoftTokens | None, params: Params | None, **options: bool
) -> Any:
    """Runs one text encoder with soft tokens and replaced parameters."""
    own_params = component_params(params or {}, encoder.component)
    with inject_soft_tokens(encoder.module, ids, soft) as input_ids:
        return call_with_params(encoder.module, own_params, input_ids, **options)


def _soft_columns(soft: Tensor | SoftTokens | None, columns: slice) -> Tensor | SoftTokens | None:
    """Returns one encoder's columns of soft embeddings."""
    if soft is None:
        return None
    if isinstance(soft, SoftTokens):
        return SoftTokens(soft.embeddings[..., columns], soft.mask)
    return soft[..., columns]
