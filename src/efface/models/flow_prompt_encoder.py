"""The text side of FLUX and SD3: CLIP text encoders beside T5.

T5 gives the hidden states, one for each token of a prompt, and CLIP the pooled state. SD3 puts CLIP's hidden states
before T5's, and works without T5. The tokens of a prompt are T5's, and CLIP's travel with them (`Tokens.clip`);
without T5 they are CLIP's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from efface.core.errors import EffaceError

from .conditioning import Conditioning, Tokens
from .prompt_encoder import PromptEncoder, padded_tokens, token_rows
from .protocol import Params
from .soft_prompt import SoftTokens
from .text_encoder import TextEncoder, run_encoder

MAX_T5_LENGTH = 512
"""Largest number of T5 tokens that the pipelines accept."""
WORD_START = "▁"
"""Marks a T5 token that begins a word."""


class FlowPromptEncoder(PromptEncoder):
    """The part of a flow model that reads prompts.

    Attributes:
        t5: T5 with its tokenizer; None for SD3 without it. It is the last of ``encoders``.
        max_sequence_length: number of T5 tokens.
    """

    t5: TextEncoder | None
    max_sequence_length: int

    @property
    def main_encoder(self) -> TextEncoder:
        """The text encoder whose tokens represent a prompt."""
        return self.t5 or self.encoders[0]

    @property
    def context_length(self) -> int:
        """Number of tokens of a prompt, with the special ones."""
        return self.max_sequence_length if self.t5 else super().context_length

    @property
    def clip_encoders(self) -> tuple[TextEncoder, ...]:
        """The CLIP text encoders."""
        return self.encoders[:-1] if self.t5 else self.encoders

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Tokenizes prompts for T5 and CLIP; warns once when prompts are too long for either.

        Raises:
            ContentPolicyError: the content policy refuses a prompt.
        """
        tokens = super().tokenize(prompts)
        if self.t5 is None:
            return tokens
        tokenizer = self.encoders[0].tokenizer
        rows, longest = token_rows(tokenizer, prompts), tokenizer.model_max_length
        lengths = [len(row) for row in rows]
        if max(lengths, default=0) > longest:
            prompt = prompts[lengths.index(max(lengths))]
            text = f"the prompt {prompt!r} is longer than CLIP's {longest - 2} tokens: T5 alone reads its end"
            warnings.warn(text, stacklevel=2)
        clip = padded_tokens(tokenizer, rows, longest, self.device)
        return replace(tokens, start=0, clip=clip)

    def vocabulary_words(self, *, whole_only: bool = False) -> list[str]:
        """Returns the tokens that are words, as sorted text; ``whole_only`` leaves out nothing of T5's."""
        if self.t5 is None:
            return super().vocabulary_words(whole_only=whole_only)
        vocabulary = self.t5.tokenizer.get_vocab()
        words = (token.removeprefix(WORD_START) for token in vocabulary if token.startswith(WORD_START))
        return sorted(word for word in words if word)

    def run_t5(self, tokens: Tokens, soft: Tensor | SoftTokens | None, params: Params | None) -> Tensor:
        """Returns T5's hidden states ``(B, L, D)``."""
        assert self.t5 is not None
        states: Tensor = run_encoder(self.t5, tokens.ids, soft, params, start=tokens.start).last_hidden_state
        return states

    def clip_tokens(self, tokens: Tokens) -> Tokens:
        """Returns CLIP's tokens of tokenized prompts.

        Raises:
            EffaceError: the tokens are T5's alone.
        """
        if self.t5 is None:
            return tokens
        if tokens.clip is None:
            raise EffaceError("the tokens are T5's without CLIP's: pass prompts, or tokens from model.tokenize")
        return tokens.clip


class FluxPromptEncoder(FlowPromptEncoder):
    """FLUX's prompts: the hidden states are T5's, the pooled state is CLIP's."""

    def encode(
        self, prompts: Sequence[str] | Tokens, *, soft: Tensor | SoftTokens | None = None, params: Params | None = None
    ) -> Conditioning:
        """Encodes prompts, differentiably.

        Args:
            prompts: B prompts, or tokens from `tokenize`.
            soft: embeddings that T5 reads before the prompt, ``(B or 1, k, D)``, or in place of tokens (`SoftTokens`);
                CLIP reads the prompt as it is.
            params: tensors by parameter name that replace the text encoders' own; names of T5's parameters have the
                prefix ``text_encoder_2.``.
        """
        tokens = prompts if isinstance(prompts, Tokens) else self.tokenize(prompts)
        pooled = run_encoder(self.encoders[0], self.clip_tokens(tokens).ids, None, params).pooler_output
        return Conditioning(self.run_t5(tokens, soft, params), pooled)


class SD3PromptEncoder(FlowPromptEncoder):
    """SD3's prompts: two CLIP encoders' states side by side, then T5's, or zeros without T5.

    Attributes:
        state_width: width of the states that the denoiser reads; CLIP's are padded to it with zeros.
    """

    state_width: int

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Tokenizes prompts for T5 and CLIP; warns once when prompts are too long for either."""
        tokens = super().tokenize(prompts)
        return tokens if tokens.clip is None else replace(tokens, state_offset=tokens.clip.ids.shape[1])

    def encode(
        self, prompts: Sequence[str] | Tokens, *, soft: Tensor | SoftTokens | None = None, params: Params | None = None
    ) -> Conditioning:
        """Encodes prompts, differentiably.

        Args:
            prompts: B prompts, or tokens from `tokenize`.
            soft: embeddings that T5, or both CLIP encoders without T5, read before the prompt, ``(B or 1, k, D)``, or
                in place of tokens (`SoftTokens`).
            params: tensors by parameter name that replace the text encoders' own; names of the second and third
                encoder's parameters have the prefixes ``text_encoder_2.`` and ``text_encoder_3.``.
        """
        tokens = prompts if isinstance(prompts, Tokens) else self.tokenize(prompts)
        outputs = self._run_clip(self.clip_tokens(tokens), None if self.t5 else soft, params)
        clip_states = torch.cat([out.hidden_states[-2] for out in outputs], dim=-1)
        clip_states = pad(clip_states, (0, self.state_width - clip_states.shape[-1]))
        if self.t5:
            t5_states = self.run_t5(tokens, soft, params)
        else:
            shape = (len(clip_states), self.max_sequence_length, self.state_width)
            t5_states = clip_states.new_zeros(shape)
        pooled = torch.cat([out.text_embeds for out in outputs], dim=-1)
        return Conditioning(torch.cat([clip_states, t5_states], dim=-2), pooled)

    def _run_clip(self, tokens: Tokens, soft: Tensor | SoftTokens | None, params: Params | None) -> list[Any]:
        """Runs both CLIP encoders; each reads its own columns of the soft embeddings."""
        outputs, start = [], 0
        for encoder in self.clip_encoders:
            columns = slice(start, start + encoder.width)
            ids = encoder.padded_ids(tokens)
            outputs.append(run_encoder(encoder, ids, soft, params, columns=columns, output_hidden_states=True))
            start = columns.stop
        return outputs
