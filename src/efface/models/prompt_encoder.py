"""The text side of Stable Diffusion: one CLIP text encoder, or SDXL's two with one vocabulary.

SDXL's encoders read the same tokens and differ in their padding only: the first pads with end-of-text, the second
with a token of its own. So one `Tokens` serves both, and each encoder writes its own padding into it. A tensor as
wide as a state or a token embedding holds the first encoder's part and then the second's: the hidden states that the
denoiser reads, and the embeddings of a soft prompt.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.policy import check_prompts

from .protocol import Conditioning, Params, Tokens
from .soft_prompt import SoftTokens
from .subword_fragments import END, nonword_tokens
from .text_encoder import TextEncoder, run_encoder


def token_rows(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Returns the token ids of each prompt with its special tokens, neither padded nor cut."""
    rows: list[list[int]] = tokenizer(list(prompts), truncation=False, verbose=False).input_ids
    return rows


def padded_tokens(tokenizer: Any, rows: Sequence[Sequence[int]], length: int, device: torch.device) -> Tokens:
    """Pads token ids on the right, or cuts them, to a length; the last token stays."""
    fitting = [row if len(row) <= length else [*row[: length - 1], row[-1]] for row in rows]
    lengths = torch.tensor([len(row) for row in fitting], dtype=torch.long)
    ids = torch.full((len(fitting), length), tokenizer.pad_token_id, dtype=torch.long)
    ids[torch.arange(length)[None] < lengths[:, None]] = torch.tensor([i for row in fitting for i in row]).long()
    ids = ids.to(device)
    eos = (ids == tokenizer.eos_token_id).int().argmax(-1)
    mask = (torch.arange(length, device=device)[None] <= eos[:, None]).long()
    return Tokens(ids, mask, eos)


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

    @property
    def main_encoder(self) -> TextEncoder:
        """The text encoder whose tokens represent a prompt."""
        return self.encoders[0]

    @property
    def context_length(self) -> int:
        """Number of tokens of a prompt, with the special ones."""
        return int(self.main_encoder.tokenizer.model_max_length)

    def truncated_text(self, prompts: Sequence[str]) -> dict[str, str]:
        """Returns, by prompt, the text beyond the context length; prompts that fit are absent."""
        tokenizer = self.main_encoder.tokenizer
        return self._lost_text(tokenizer, prompts, token_rows(tokenizer, prompts))

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Tokenizes prompts, padded to the context length; warns once when prompts are too long.

        Raises:
            ContentPolicyError: the content policy refuses a prompt.
        """
        check_prompts(prompts)
        tokenizer, length = self.main_encoder.tokenizer, self.context_length
        rows = token_rows(tokenizer, prompts)
        if truncated := self._lost_text(tokenizer, prompts, rows):
            prompt, lost = next(iter(truncated.items()))
            count = f" (one of {len(truncated)})" if len(truncated) > 1 else ""
            room = length - tokenizer.num_special_tokens_to_add()
            warnings.warn(f"the prompt {prompt!r} is longer than {room} tokens{count}; cut off: {lost!r}", stacklevel=2)
        return padded_tokens(tokenizer, rows, length, self.device)

    def _lost_text(self, tokenizer: Any, prompts: Sequence[str], rows: Sequence[Sequence[int]]) -> dict[str, str]:
        length = self.context_length
        return {
            prompt: tokenizer.decode(row[length - 1 : -1])
            for prompt, row in zip(prompts, rows, strict=True)
            if len(row) > length
        }

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
        return str(self.main_encoder.tokenizer.decode(list(ids))).strip()

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
            out = run_encoder(self.encoders[0], tokens.ids, soft, params)
            return Conditioning(out.last_hidden_state, out.pooler_output)
        states, start, out = [], 0, None
        for encoder in self.encoders:
            columns = slice(start, start + encoder.width)
            ids = encoder.padded_ids(tokens)
            out = run_encoder(encoder, ids, soft, params, columns=columns, output_hidden_states=True)
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
