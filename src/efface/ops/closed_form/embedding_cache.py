"""Text embeddings as the denoiser reads them; each text is encoded once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.models.float32_weights import float32_text_params

from .token_positions import TokenPositions, token_positions

EncodeFn = Callable[[Sequence[str]], tuple[Tensor, list[TokenPositions]]]


class EmbeddingCache:
    """Hidden states of texts with the positions of their tokens; no text is encoded twice.

    Args:
        encode: function from texts to states ``(B, L, d)`` and token positions.
        batch_size: texts encoded at the same time.
    """

    def __init__(self, encode: EncodeFn, batch_size: int = 64) -> None:
        self._encode, self._batch_size = encode, batch_size
        self._known: dict[str, tuple[Tensor, TokenPositions]] = {}

    @classmethod
    def for_model(cls, model: EditableModel, batch_size: int = 64) -> EmbeddingCache:
        """Returns a cache over a text-to-image model, with states as its denoiser reads them.

        Encoding a text that is longer than the context raises `EffaceError`. A model in half precision encodes in
        float32, with the weights of its files (`efface.models.float32_weights`): in bfloat16, the edits of UCE, SPEED
        and RECE would be 1 to 15 % off on pocket (relative norm).
        """
        params = float32_text_params(model)

        def encode(texts: Sequence[str]) -> tuple[Tensor, list[TokenPositions]]:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                try:
                    tokens = model.tokenize(texts)
                except UserWarning as error:
                    raise EffaceError(f"{error}; use a shorter text") from error
            with torch.no_grad():
                return model.encode(tokens, params=params).states, token_positions(tokens)

        return cls(encode, batch_size)

    def add(self, texts: Iterable[str]) -> None:
        """Encodes the texts that are not in the cache."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(new), self._batch_size):
            batch = new[start : start + self._batch_size]
            states, positions = self._encode(batch)
            for text, row, position in zip(batch, states.double().cpu(), positions, strict=True):
                self._known[text] = (row, position)

    def states(self, text: str) -> Tensor:
        """Returns the states of one text, ``(L, d)``, float64."""
        self.add([text])
        return self._known[text][0]

    def positions(self, text: str) -> TokenPositions:
        """Returns the token positions of one text."""
        self.add([text])
        return self._known[text][1]

    def last_states(self, text: str, empty_as_bos: bool = False) -> Tensor:
        """Returns the state of a text's last token, ``(1, d)``; CLIP's and T5's where both give states, ``(2, d)``."""
        states = self.states(text)
        return states[[here.offset + here.last(empty_as_bos) for here in self.positions(text).segments]]

    def __len__(self) -> int:
        return len(self._known)
