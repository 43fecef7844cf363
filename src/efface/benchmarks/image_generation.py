"""The rows of a benchmark as images, from the cache where they were drawn before; shared out where there are several processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from efface.benchmarks.generation_round import GenerationRound
from efface.core.erasure import Erasure
from efface.core.serialization import json_hash, to_jsonable
from efface.core.spec import package_versions
from efface.core.tensors import TensorBlob
from efface.distributed import env
from efface.distributed.collectives import sync_errors
from efface.models.editable import EditableModel
from efface.ops.editing.apply import applied
from efface.ops.text.soft_prompts import to_soft_tokens

from .benchmark import EvalSample, Sampler
from .image_cache import ImageCache

Advance = Callable[[int], None]


def model_key(model: EditableModel) -> str:
    """A hash of the model's weights, of the precision and kind of device that it computes in, and of the packages that draw."""
    dtype = str(next(model.components["unet"].parameters()).dtype)
    drawn_by = package_versions(["efface", "torch", "diffusers"])
    return json_hash({"base": model.fingerprint(), "dtype": dtype, "on": model.device.type, "by": drawn_by})


def erasure_key(erasure: Erasure | None) -> str:
    """A hash of an erasure's edits with every byte of their tensors; two runs that ended alike have one key."""
    if erasure is None:
        return ""
    digest = hashlib.sha256(json_hash([to_jsonable(edit) for edit in erasure.edits]).encode())
    for name in erasure.tensor_names():
        blob = TensorBlob.of(erasure.tensors[name])
        digest.update(f"{name} {blob.dtype} {blob.shape}".encode())
        digest.update(blob.data)
    return digest.hexdigest()


class ImageGenerator:
    """Draws rows with one model, with or without erasures on it.

    Args:
        model: the base model; erasures are applied while their images are drawn, and removed.
        sampler: how.
        cache: where images are kept; None keeps none.
        batch: images drawn at once; the model's own number by default.
        force: whether an erasure may be for another base.
    """

    def __init__(
        self,
        model: EditableModel,
        sampler: Sampler,
        cache: ImageCache | None,
        *,
        batch: int | None = None,
        force: bool = False,
    ) -> None:
        self.model, self.sampler, self.batch, self.force = model, sampler, batch or model.batch, force
        self.cache = cache if env.is_main() else None
        self._model_key = model_key(model) if self.cache else ""

    def generate(
        self, rows: Sequence[EvalSample], erasure: Erasure | None, advance: Advance | None = None
    ) -> Iterator[tuple[list[EvalSample], Tensor]]:
        """Batches of rows with their images ``(B, 3, H, W)`` in [0, 1], quantised to 8 bits as a file would be.

        The erasure is applied with the first image that is not in the cache, and removed at the end: finish one stream before the next.
        Of several processes, each draws batches in turn and gets all images; the first one alone keeps a cache.

        Args:
            rows: what to draw.
            erasure: what to apply first; None draws with the base model.
            advance: called with the number of images after each batch.
        """
        state = json_hash([self._model_key, erasure_key(erasure), to_jsonable(self.sampler)]) if self.cache else ""
        on = False
        with ExitStack() as edited:
            for start in range(0, len(rows), self.batch * env.world_size()):
                own = rows[start : start + self.batch * env.world_size()]
                turn = GenerationRound.planned(
                    [list(own[i : i + self.batch]) for i in range(0, len(own), self.batch)], state, self.cache
                )
                mine = turn.local_rows
                with sync_errors():
                    if mine and erasure is not None and not on:
                        on = bool(edited.enter_context(applied(self.model, erasure, force=self.force)))
                    drawn = self._generate_batch(mine) if mine else None
                for part, images in zip(
                    turn.batches, turn.collect(drawn, self.batch, self.model.image_size), strict=True
                ):
                    yield part, images.float() / 255
                    if advance:
                        advance(len(part))

    def _generate_batch(self, rows: Sequence[EvalSample]) -> Tensor:
        """Images as bytes, ``(B, 3, H, W)``."""
        texts, seeds, how = [row.text for row in rows], [row.seed for row in rows], self.sampler
        soft = to_soft_tokens(self.model, texts, [row.soft for row in rows])
        images = self.model.sample(
            texts,
            seeds=seeds,
            num_inference_steps=how.num_inference_steps,
            guidance_scale=how.guidance_scale,
            batch_size=self.batch,
            soft=soft,
        )
        return (images * 255 + 0.5).clamp(0, 255).to(torch.uint8).cpu()
