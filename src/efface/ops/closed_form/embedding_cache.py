"""What texts become to the denoiser, each text encoded once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from efface.core.errors import EffaceError
from efface.models.editable import EditableModel

from .token_positions import TokenPositions, parse_positions

Read = Callable[[Sequence[str]], tuple[Tensor, list[TokenPositions]]]


class EmbeddingCache:
    """States of texts, with the places of their tokens; a text that is asked for again is not encoded again.

    Args:
        read: from texts to states ``(B, L, d)`` and their places.
        batch: texts encoded at once.
    """

    def __init__(self, read: Read, batch: int = 64) -> None:
        self._read, self._batch = read, batch
        self._known: dict[str, tuple[Tensor, TokenPositions]] = {}

    @classmethod
    def of(cls, model: EditableModel, batch: int = 64) -> EmbeddingCache:
        """The bank of a text-to-image model: states as its denoiser reads them.

        A text that the context cuts off raises `EffaceError` when it is asked for.
        """

        def read(texts: Sequence[str]) -> tuple[Tensor, list[TokenPositions]]:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                try:
                    tokens = model.tokenize(texts)
                except UserWarning as error:
                    raise EffaceError(f"{error}; use a shorter text") from error
            length = tokens.ids.shape[1]
            places = [
                TokenPositions(length, tuple(range(1, end)), 0, end, tuple(range(end + 1, length)))
                for end in tokens.eos.tolist()
            ]
            with torch.no_grad():
                return model.encode(tokens).states, places

        return cls(read, batch)

    @classmethod
    def over(cls, tokenizer: Any, encoder: nn.Module, length: int, batch: int = 64) -> EmbeddingCache:
        """The bank of a transformers text encoder of any kind, such as T5 or Llama, by its last hidden states."""

        def read(texts: Sequence[str]) -> tuple[Tensor, list[TokenPositions]]:
            ids, places = parse_positions(tokenizer, texts, length)
            with torch.no_grad():
                return encoder(ids).last_hidden_state, places

        return cls(read, batch)

    def add(self, texts: Iterable[str]) -> None:
        """Encodes those of the texts that are new."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(new), self._batch):
            part = new[start : start + self._batch]
            states, places = self._read(part)
            for text, row, place in zip(part, states.double().cpu(), places, strict=True):
                self._known[text] = (row, place)

    def states(self, text: str) -> Tensor:
        """The states of one text, ``(L, d)``, float64."""
        self.add([text])
        return self._known[text][0]

    def places(self, text: str) -> TokenPositions:
        """Where the tokens of one text are."""
        self.add([text])
        return self._known[text][1]

    def __len__(self) -> int:
        return len(self._known)
