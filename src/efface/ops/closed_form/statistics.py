"""The inputs of a closed-form solution, stored in the erasure, so that concepts can be added or removed later."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.tensors import Tensor as StoredTensor
from efface.core.tensors import TensorBlob
from efface.ops.tensor_conversion import to_blob, to_torch

from .embedding_cache import EmbeddingCache
from .problem import Pairs, Preserve

PREFIX = "statistics."


@dataclass(frozen=True)
class PreservedStates:
    """States of texts to preserve.

    Attributes:
        texts: the texts, so that none is added twice.
        states: one or several states of each text, ``(d, n)``; None if only their Gram matrix is kept.
        gram: ``sum_j r_j r_j^T``, ``(d, d)``; None if the states are kept.
    """

    texts: tuple[str, ...] = ()
    states: Tensor | None = None
    gram: Tensor | None = None

    @classmethod
    def from_texts(
        cls,
        cache: EmbeddingCache,
        texts: Iterable[str],
        all_tokens: bool,
        known: Collection[str] = (),
        empty_as_bos: bool = False,
    ) -> PreservedStates:
        """Returns the state of every text's last token, or the Gram matrix of all tokens.

        Args:
            cache: embeddings of the texts.
            texts: texts to preserve.
            all_tokens: Gram matrix of all tokens instead of the last tokens' states.
            known: texts to leave out.
            empty_as_bos: whether an empty text's last token is BOS, as in released code, instead of the end of text.
        """
        new = tuple(text for text in dict.fromkeys(texts) if text not in known)
        if not new:
            return cls()
        cache.add(new)
        if not all_tokens:
            return cls(new, torch.cat([cache.last_states(text, empty_as_bos) for text in new]).T)
        gram = sum((s.T @ s for s in map(cache.states, new)), start=torch.zeros((), dtype=torch.float64))
        return cls(new, gram=gram)

    def preserve(self, weight: float) -> Preserve:
        """Returns the terms of the least-squares problem, with the same weight for every state."""
        if not weight or not self.texts:
            return Preserve()
        if self.states is None:
            return Preserve(gram=None if self.gram is None else self.gram * weight)
        return Preserve(self.states, torch.full((self.states.shape[1],), weight, dtype=torch.float64))

    def merge(self, other: PreservedStates) -> PreservedStates:
        """Returns the union of two sets of the same kind without common texts."""
        if not (self.texts and other.texts):
            return self if self.texts else other
        states = None if self.states is None or other.states is None else torch.cat([self.states, other.states], dim=1)
        gram = None if self.gram is None or other.gram is None else self.gram + other.gram
        return PreservedStates((*self.texts, *other.texts), states, gram)


@dataclass(frozen=True)
class Statistics:
    """Inputs of a closed-form solution.

    Attributes:
        pairs: pairs of states of each concept, in the run's order.
        preserved: states to preserve.
        extra: further states that do not depend on the concepts, by name.
    """

    pairs: tuple[Pairs, ...]
    preserved: PreservedStates = field(default_factory=PreservedStates)
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def merge(self, other: Statistics) -> Statistics:
        """Returns the concepts and the preserved states of both."""
        return Statistics((*self.pairs, *other.pairs), self.preserved.merge(other.preserved), self.extra)

    def subset(self, indices: Iterable[int]) -> Statistics:
        """Returns some of the concepts with all preserved states."""
        return replace(self, pairs=tuple(self.pairs[i] for i in indices))

    def tensors(self) -> dict[str, TensorBlob]:
        """Returns tensors for the erasure's file, float64, so that solving again gives the same edit."""
        named: dict[str, Tensor] = {}
        texts = {"preserved": list(self.preserved.texts), "pairs": [list(pairs.texts) for pairs in self.pairs]}
        for i, pairs in enumerate(self.pairs):
            named |= {f"pairs.{i}.{name}": getattr(pairs, name) for name in ("source", "anchor", "weight")}
        for name in ("states", "gram"):
            if (tensor := getattr(self.preserved, name)) is not None:
                named[f"preserved.{name}"] = tensor
        named |= {f"extra.{name}": tensor for name, tensor in self.extra.items()}
        named["texts"] = torch.frombuffer(bytearray(json.dumps(texts).encode()), dtype=torch.uint8)
        return {f"{PREFIX}{name}": to_blob(tensor) for name, tensor in named.items()}

    @classmethod
    def read(cls, tensors: Mapping[str, StoredTensor]) -> Statistics:
        """Reads the statistics from an erasure's tensors.

        Raises:
            EffaceError: the erasure holds none.
        """
        stored = {name.removeprefix(PREFIX): tensors[name] for name in sorted(tensors) if name.startswith(PREFIX)}
        if "texts" not in stored:
            raise EffaceError(
                "the erasure holds no statistics to solve from again: erase again with a closed-form method"
            )
        texts = json.loads(bytes(to_torch(stored["texts"]).tolist()))
        pairs = []
        for i, words in enumerate(texts["pairs"]):
            source, anchor, weight = (to_torch(stored[f"pairs.{i}.{name}"]) for name in ("source", "anchor", "weight"))
            pairs.append(Pairs(source, anchor, weight, tuple(words)))
        states, gram = (
            to_torch(stored[name]) if name in stored else None for name in ("preserved.states", "preserved.gram")
        )
        extra_names = [name for name in stored if name.startswith("extra.")]
        extra = {name.removeprefix("extra."): to_torch(stored[name]) for name in extra_names}
        return cls(tuple(pairs), PreservedStates(tuple(texts["preserved"]), states, gram), extra)
