"""One round of image generation: a batch for every process, composed as in one process for bit-identical images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.attack_set import SoftPrompt, StartLatent
from efface.core.serialization import json_hash
from efface.distributed import env
from efface.distributed.collectives import broadcast_bytes, broadcast_tensor, gather_tensor

from .image_cache import ImageCache
from .samples import EvalSample


def soft_key(soft: SoftPrompt | None) -> list[object]:
    """The part of an image's key that depends on its soft prompt; empty without one."""
    return [] if soft is None else [hashlib.sha256(soft.embeddings.data).hexdigest(), soft.positions]


def start_key(start: StartLatent | None) -> list[object]:
    """The part of an image's key that depends on the latent that it starts from; empty without one."""
    return [] if start is None else ["start", hashlib.sha256(start.latent.data).hexdigest(), start.step]


@dataclass
class GenerationRound:
    """The batches of a round, the n-th for the n-th process.

    Attributes:
        batches: the batches.
        missing: for each batch, the indices of the samples to generate; known in every process.
        keys: for each batch, the samples' cache keys; known in the main process only.
        images: images by key, from the cache and generated ones; known in the main process only.
        cache: where new images are stored; None for no cache.
    """

    batches: Sequence[list[EvalSample]]
    missing: list[list[int]]
    keys: list[list[str]]
    images: dict[str, Tensor]
    cache: ImageCache | None

    @classmethod
    def planned(
        cls, batches: Sequence[list[EvalSample]], model_state: str, cache: ImageCache | None
    ) -> GenerationRound:
        """Look up the batches in the main process's cache and share what is missing.

        Args:
            batches: the batches.
            model_state: hash of model, erasure and sampler, which is part of every image's key.
            cache: where images are stored; used in the main process only.
        """
        keys: list[list[str]] = []
        images: dict[str, Tensor] = {}
        missing: list[list[int]] = []
        if env.is_main():
            keys = [[_image_key(model_state, sample) for sample in batch] for batch in batches]
            images = cache.get(key for batch in keys for key in batch) if cache else {}
            available = set(images)
            for batch_keys in keys:  # a repeated image of an earlier batch would be in the cache by now
                missing.append([i for i, key in enumerate(batch_keys) if key not in available])
                available.update(batch_keys if cache else ())
        return cls(batches, json.loads(broadcast_bytes(json.dumps(missing).encode())), keys, images, cache)

    @property
    def local_samples(self) -> list[EvalSample]:
        """The samples that this process generates."""
        rank = env.rank()
        return [self.batches[rank][i] for i in self.missing[rank]] if rank < len(self.batches) else []

    def collect(self, local_images: Tensor | None, batch_size: int, side: int) -> Iterator[Tensor]:
        """Yield the images of every batch, ``(B, 3, H, W)`` bytes, in every process; the main process caches new ones.

        Args:
            local_images: this process's images, ``(b, 3, H, W)`` bytes; None for none.
            batch_size: maximum number of images that a process generates in a round.
            side: H and W in pixels.
        """
        if any(self.missing):
            self._gather(local_images, batch_size, side)
        for batch, keys in zip(self.batches, self.keys or [[]] * len(self.batches), strict=True):
            if keys:
                images = torch.stack([self.images[key] for key in keys])
            else:
                images = torch.empty(len(batch), 3, side, side, dtype=torch.uint8)
            yield broadcast_tensor(images)

    def _gather(self, local_images: Tensor | None, batch_size: int, side: int) -> None:
        """Collect the generated images of all processes in the main process."""
        padded = local_images
        if env.world_size() > 1:
            padded = torch.zeros(batch_size, 3, side, side, dtype=torch.uint8)
            if local_images is not None:
                padded[: len(local_images)] = local_images
        assert padded is not None  # a single process has generated what was missing
        for images, indices, keys in zip(gather_tensor(padded), self.missing, self.keys, strict=False):
            new = {keys[i]: image for i, image in zip(indices, images, strict=False)}
            if self.cache:
                self.cache.put(new)
            self.images |= new


def _image_key(model_state: str, sample: EvalSample) -> str:
    return json_hash([model_state, sample.text, sample.seed, *soft_key(sample.soft), *start_key(sample.start)])
