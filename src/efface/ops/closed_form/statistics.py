"""What a closed-form erasure was solved from, kept in its file, so that a concept can be added or given back by solving anew."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.tensors import Tensor as Stored
from efface.core.tensors import TensorBlob
from efface.ops.tensor_conversion import to_blob, to_torch

from .embedding_cache import EmbeddingCache
from .solve import Pairs, Preserve

PREFIX = "statistics."


@dataclass(frozen=True)
class PreservedStates:
    """States of texts that must stay.

    Attributes:
        texts: which texts are in it, so that none goes in twice.
        states: ``(d, n)``, one or several a text; None where only their sum of products is kept.
        gram: ``sum_j r_j r_j^T`` ``(d, d)``; None where the states are there.
    """

    texts: tuple[str, ...] = ()
    states: Tensor | None = None
    gram: Tensor | None = None

    @classmethod
    def of(
        cls, bank: EmbeddingCache, texts: Iterable[str], whole: bool, known: Collection[str] = ()
    ) -> PreservedStates:
        """The last token of every text, or with ``whole`` the Gram of all tokens; texts that are known already are left out."""
        chosen = tuple(text for text in dict.fromkeys(texts) if text not in known)
        if not chosen:
            return cls()
        bank.add(chosen)
        if not whole:
            return cls(chosen, torch.stack([bank.states(t)[bank.places(t).last] for t in chosen], dim=1))
        gram = sum((s.T @ s for s in map(bank.states, chosen)), start=torch.zeros((), dtype=torch.float64))
        return cls(chosen, gram=gram)

    def preserve(self, weight: float) -> Preserve:
        """As the solver takes it, every state with the same weight."""
        if not weight or not self.texts:
            return Preserve()
        if self.states is None:
            return Preserve(gram=None if self.gram is None else self.gram * weight)
        return Preserve(self.states, torch.full((self.states.shape[1],), weight, dtype=torch.float64))

    def merge(self, other: PreservedStates) -> PreservedStates:
        """Both; they are of the same kind and share no text."""
        if not (self.texts and other.texts):
            return self if self.texts else other
        states = None if self.states is None or other.states is None else torch.cat([self.states, other.states], dim=1)
        gram = None if self.gram is None or other.gram is None else self.gram + other.gram
        return PreservedStates((*self.texts, *other.texts), states, gram)


@dataclass(frozen=True)
class Statistics:
    """What a solve needs of its texts.

    Attributes:
        pairs: of each concept, in the run's order.
        kept: what must stay.
        extra: other states that the solve needs, by name, which do not depend on the concepts.
    """

    pairs: tuple[Pairs, ...]
    kept: PreservedStates = field(default_factory=PreservedStates)
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def merge(self, other: Statistics) -> Statistics:
        """The concepts of both, and what must stay of both."""
        return Statistics((*self.pairs, *other.pairs), self.kept.merge(other.kept), self.extra)

    def subset(self, chosen: Iterable[int]) -> Statistics:
        """Some of the concepts; what must stay is as it was."""
        return replace(self, pairs=tuple(self.pairs[i] for i in chosen))

    def tensors(self) -> dict[str, TensorBlob]:
        """As tensors of an artifact, float64, so that a solve from them gives the same edit."""
        named: dict[str, Tensor] = {}
        texts: dict[str, object] = {"kept": list(self.kept.texts), "pairs": [list(p.texts) for p in self.pairs]}
        for i, pairs in enumerate(self.pairs):
            named |= {f"{PREFIX}{i}.{part}": getattr(pairs, part) for part in ("source", "anchor", "weight")}
        for part in ("states", "gram"):
            if (tensor := getattr(self.kept, part)) is not None:
                named[f"{PREFIX}kept.{part}"] = tensor
        named |= {f"{PREFIX}extra.{name}": tensor for name, tensor in self.extra.items()}
        packed = torch.frombuffer(bytearray(json.dumps(texts).encode()), dtype=torch.uint8)
        return {name: to_blob(tensor) for name, tensor in {**named, f"{PREFIX}texts": packed}.items()}

    @classmethod
    def read(cls, tensors: Mapping[str, Stored]) -> Statistics:
        """The statistics among an artifact's tensors.

        Raises:
            EffaceError: there are none.
        """
        if f"{PREFIX}texts" not in tensors:
            raise EffaceError(
                "the erasure holds no statistics to solve from again: erase anew with a closed-form method"
            )
        texts = json.loads(bytes(to_torch(tensors[f"{PREFIX}texts"]).tolist()))

        def own(i: int) -> Pairs:
            source, anchor, weight = (
                to_torch(tensors[f"{PREFIX}{i}.{part}"]) for part in ("source", "anchor", "weight")
            )
            return Pairs(source, anchor, weight, tuple(texts["pairs"][i]))

        kept = {
            part: to_torch(tensors[name]) for part in ("states", "gram") if (name := f"{PREFIX}kept.{part}") in tensors
        }
        start = f"{PREFIX}extra."
        extra = {
            name.removeprefix(start): to_torch(tensors[name]) for name in sorted(tensors) if name.startswith(start)
        }
        return cls(tuple(map(own, range(len(texts["pairs"])))), PreservedStates(tuple(texts["kept"]), **kept), extra)
