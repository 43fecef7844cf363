"""One turn of drawing: a batch for every process, composed as it would be in one process, so that the images are the same bits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.attack_set import SoftPrompt
from efface.core.serialization import json_hash
from efface.distributed import env
from efface.distributed.collectives import broadcast_bytes, broadcast_tensor, gather_tensor

from .benchmark import EvalSample
from .image_cache import ImageCache


def soft_key(soft: SoftPrompt | None) -> list[object]:
    """What an image's key holds of a soft prompt; nothing for none."""
    return [] if soft is None else [hashlib.sha256(soft.embeddings.data).hexdigest(), soft.places]


@dataclass
class GenerationRound:
    """The batches of a turn, the n-th for the n-th process.

    Attributes:
        parts: the batches.
        missing: of each, the places of the rows that must be drawn. Known in every process, the rest in the first one only.
        keys: of each, the rows' keys. found: the images that were drawn before, by key. cache: where new ones are kept.
    """

    batches: Sequence[list[EvalSample]]
    missing: list[list[int]]
    keys: list[list[str]]
    found: dict[str, Tensor]
    cache: ImageCache | None

    @classmethod
    def planned(cls, parts: Sequence[list[EvalSample]], state: str, cache: ImageCache | None) -> GenerationRound:
        """What is to be drawn, as the first process finds it in its cache.

        Args:
            parts: the batches.
            state: what the images' keys hold beside the rows.
            cache: where images are kept; heeded in the first process only.
        """
        keys: list[list[str]] = []
        found: dict[str, Tensor] = {}
        missing: list[list[int]] = []
        if env.is_main():
            keys = [[json_hash([state, row.text, row.seed, *soft_key(row.soft)]) for row in part] for part in parts]
            found = cache.get(key for part in keys for key in part) if cache else {}
            there = set(found)
            for part in keys:  # what an earlier batch draws would be in the cache by now
                missing.append([i for i, key in enumerate(part) if key not in there])
                there.update(part if cache else ())
        return cls(parts, json.loads(broadcast_bytes(json.dumps(missing).encode())), keys, found, cache)

    @property
    def local_rows(self) -> list[EvalSample]:
        """What this process draws."""
        own = env.rank()
        return [self.batches[own][i] for i in self.missing[own]] if own < len(self.batches) else []

    def collect(self, drawn: Tensor | None, batch: int, side: int) -> Iterator[Tensor]:
        """The images of every batch, ``(B, 3, H, W)`` bytes, in every process; the first one keeps the new ones.

        Args:
            drawn: this process's images, ``(b, 3, H, W)`` bytes; None for none.
            batch: the most that a process draws in a turn.
            side: H and W.
        """
        if any(self.missing):
            self._take(drawn, batch, side)
        for part, keys in zip(self.batches, self.keys or [[]] * len(self.batches), strict=True):
            own = (
                torch.stack([self.found[key] for key in keys])
                if keys
                else torch.empty(len(part), 3, side, side, dtype=torch.uint8)
            )
            yield broadcast_tensor(own)

    def _take(self, drawn: Tensor | None, batch: int, side: int) -> None:
        """Collects what was drawn in the first process."""
        own = drawn
        if env.world_size() > 1:
            own = torch.zeros(batch, 3, side, side, dtype=torch.uint8)
            if drawn is not None:
                own[: len(drawn)] = drawn
        assert own is not None  # alone, this process drew what was missing
        for images, places, keys in zip(gather_tensor(own), self.missing, self.keys, strict=False):
            new = {keys[i]: image for i, image in zip(places, images, strict=False)}
            if self.cache:
                self.cache.put(new)
            self.found |= new
