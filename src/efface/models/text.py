"""The text side of Stable Diffusion: one CLIP text encoder, or SDXL's two behind one vocabulary.

SDXL's encoders read the same tokens; only what fills the places behind the end of the text differs (the first is given end-of-text again,
the second a word of its own). So there is one `Tokens` for both, whose padding each encoder writes as its own tokenizer would. Whatever
is as wide as a state or an embedding is the first encoder's part and then the second's: the hidden states that the denoiser reads, the
token embeddings of a soft prompt.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from efface.core.errors import EffaceError
from efface.core.policy import check_prompts

from .parameter_groups import component_params
from .protocol import Conditioning, Params, Tokens
from .soft_prompt import SoftTokens, soft_tokens, token_embedding
from .subword_fragments import END, nonword_tokens


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder with its tokenizer, under its component's name."""

    component: str
    tokenizer: Any
    module: nn.Module

    @property
    def width(self) -> int:
        """Of a token's embedding."""
        weight = token_embedding(self.module).weight
        return int(weight.shape[1])  # type: ignore[index, union-attr]

    def ids(self, tokens: Tokens) -> Tensor:
        """The token ids with this encoder's padding behind the end of the text."""
        behind = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)[None] > tokens.eos[:, None]
        return torch.where(behind, self.tokenizer.pad_token_id, tokens.ids)


class PromptEncoder:
    """The part of a model that reads prompts: a base of the adapter, which says what the encoders are and where it computes.

    Attributes:
        encoders: one, or SDXL's two: then the states are those before the last layer, and the pooled state is the second's projected one.
    """

    encoders: tuple[TextEncoder, ...]

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        raise NotImplementedError

    def truncated_text(self, prompts: Sequence[str]) -> dict[str, str]:
        """Of those prompts that are longer than the context, what is cut off."""
        first = self.encoders[0].tokenizer
        rows, length = first(list(prompts), truncation=False, verbose=False).input_ids, first.model_max_length
        return {
            prompt: first.decode(row[length - 1 : -1])
            for prompt, row in zip(prompts, rows, strict=True)
            if len(row) > length
        }

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Prompts to tokens, padded to the context length; warns once, and says what was cut, when prompts are too long."""
        check_prompts(prompts)
        first = self.encoders[0].tokenizer
        length = first.model_max_length
        if cut := self.truncated_text(prompts):
            (prompt, lost), more = next(iter(cut.items())), f" (one of {len(cut)})" if len(cut) > 1 else ""
            warnings.warn(
                f"the prompt {prompt!r} is longer than {length - 2} tokens{more}; cut off: {lost!r}", stacklevel=2
            )
        batch = first(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        ids = batch.input_ids.to(self.device)
        eos = (ids == first.eos_token_id).int().argmax(-1)
        mask = (torch.arange(length, device=ids.device)[None] <= eos[:, None]).long()
        return Tokens(ids, mask, eos)

    def vocabulary_words(self, *, alone: bool = False) -> list[str]:
        """Every token of the vocabulary that ends a word, as text, sorted; ``alone``: only those that stand alone, not what ends others."""
        tokenizer = self.encoders[0].tokenizer
        ends = {token.removesuffix(END) for token in tokenizer.get_vocab() if token.endswith(END)}
        return sorted(ends - nonword_tokens(tokenizer) if alone else ends)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Token ids to text, as a user could type it."""
        return str(self.encoders[0].tokenizer.decode(list(ids))).strip()

    def encode(
        self, prompts: Sequence[str] | Tokens, *, soft: Tensor | SoftTokens | None = None, params: Params | None = None
    ) -> Conditioning:
        """Prompts to conditioning, differentiable.

        Args:
            prompts: texts, or tokens from :meth:`tokenize`, also fewer than the context is long.
            soft: embeddings ``(B, k, D)`` or ``(1, k, D)`` that go in right after BOS, so that the last k tokens are moved out of the
                context; or `Soft`, in place of the tokens that it names. With two encoders D is the sum of both widths.
            params: tensors that stand in for the text encoder's own, by parameter name; the second encoder's with its component's name
                and a dot before it, ``text_encoder_2.<name>``.
        """
        tokens = prompts if isinstance(prompts, Tokens) else self.tokenize(prompts)
        if len(self.encoders) == 1:
            out = _run(self.encoders[0], tokens.ids, soft, params)
            return Conditioning(out.last_hidden_state, out.pooler_output)
        states, start, out = [], 0, None
        for encoder in self.encoders:
            part = slice(start, start + encoder.width)
            out = _run(encoder, encoder.ids(tokens), _of(soft, part), params, output_hidden_states=True)
            states.append(out.hidden_states[-2])
            start = part.stop
        return Conditioning(torch.cat(states, dim=-1), out.text_embeds)


def check_same_vocabulary(encoders: tuple[TextEncoder, ...]) -> tuple[TextEncoder, ...]:
    """The encoders, if all of them read the same tokens.

    Raises:
        EffaceError: two tokenizers of different vocabularies or lengths.
    """
    first = encoders[0].tokenizer
    for other in (encoder.tokenizer for encoder in encoders[1:]):
        if other.get_vocab() != first.get_vocab() or other.model_max_length != first.model_max_length:
            raise EffaceError(
                "the model's two tokenizers have different vocabularies or lengths: efface writes one prompt for both"
            )
    return encoders


def _run(
    encoder: TextEncoder, ids: Tensor, soft: Tensor | SoftTokens | None, params: Params | None, **how: bool
) -> Any:
    with soft_tokens(encoder.module, ids, soft) as shown:
        return functional_call(encoder.module, component_params(params or {}, encoder.component), (shown,), how)


def _of(soft: Tensor | SoftTokens | None, part: slice) -> Tensor | SoftTokens | None:
    """The embeddings of one encoder."""
    return (
        SoftTokens(soft.embeddings[..., part], soft.mask)
        if isinstance(soft, SoftTokens)
        else None
        if soft is None
        else soft[..., part]
    )
