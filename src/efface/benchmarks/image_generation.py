"""The rows of a benchmark as pictures, from the cache where they were drawn before; shared out where there are several processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from efface.benchmarks.generation_round import Turn
from efface.core.erasure import Erasure
from efface.core.serialization import json_hash, plain
from efface.core.spec import installed
from efface.core.tensors import TensorBlob
from efface.distributed import env
from efface.distributed.collectives import in_step
from efface.models.editable import Editable
from efface.ops.editing.apply import applied
from efface.ops.text.soft_prompts import soft_of

from .benchmark import Row, Sampler
from .image_cache import PictureCache

Advance = Callable[[int], None]


def model_key(model: Editable) -> str:
    """A hash of the model's weights, of the precision and kind of device that it computes in, and of the packages that draw."""
    dtype = str(next(model.components["unet"].parameters()).dtype)
    drawn_by = installed(["efface", "torch", "diffusers"])
    return json_hash({"base": model.fingerprint(), "dtype": dtype, "on": model.device.type, "by": drawn_by})


def erasure_key(erasure: Erasure | None) -> str:
    """A hash of an erasure's edits with every byte of their tensors; two runs that ended alike have one key."""
    if erasure is None:
        return ""
    digest = hashlib.sha256(json_hash([plain(edit) for edit in erasure.edits]).encode())
    for name in erasure.tensor_names():
        blob = TensorBlob.of(erasure.tensors[name])
        digest.update(f"{name} {blob.dtype} {blob.shape}".encode())
        digest.update(blob.data)
    return digest.hexdigest()


class Painter:
    """Draws rows with one model, with or without erasures on it.

    Args:
        model: the base model; erasures are applied while their pictures are drawn, and removed.
        sampler: how.
        cache: where pictures are kept; None keeps none.
        batch: pictures drawn at once; the model's own number by default.
        force: whether an erasure may be for another base.
    """

    def __init__(
        self,
        model: Editable,
        sampler: Sampler,
        cache: PictureCache | None,
        *,
        batch: int | None = None,
        force: bool = False,
    ) -> None:
        self.model, self.sampler, self.batch, self.force = model, sampler, batch or model.batch, force
        self.cache = cache if env.is_main() else None
        self._model_key = model_key(model) if self.cache else ""

    def pictures(
        self, rows: Sequence[Row], erasure: Erasure | None, advance: Advance | None = None
    ) -> Iterator[tuple[list[Row], Tensor]]:
        """Batches of rows with their pictures ``(B, 3, H, W)`` in [0, 1], quantised to 8 bits as a file would be.

        The erasure is applied with the first picture that is not in the cache, and removed at the end: finish one stream before the next.
        Of several processes, each draws batches in turn and gets all pictures; the first one alone keeps a cache.

        Args:
            rows: what to draw.
            erasure: what to apply first; None draws with the base model.
            advance: called with the number of pictures after each batch.
        """
        state = json_hash([self._model_key, erasure_key(erasure), plain(self.sampler)]) if self.cache else ""
        on = False
        with ExitStack() as edited:
            for start in range(0, len(rows), self.batch * env.size()):
                own = rows[start : start + self.batch * env.size()]
                turn = Turn.planned(
                    [list(own[i : i + self.batch]) for i in range(0, len(own), self.batch)], state, self.cache
                )
                mine = turn.mine
                with in_step():
                    if mine and erasure is not None and not on:
                        on = bool(edited.enter_context(applied(self.model, erasure, force=self.force)))
                    drawn = self._draw(mine) if mine else None
                for part, pictures in zip(
                    turn.parts, turn.finished(drawn, self.batch, self.model.image_size), strict=True
                ):
                    yield part, pictures.float() / 255
                    if advance:
                        advance(len(part))

    def _draw(self, rows: Sequence[Row]) -> Tensor:
        """Pictures as bytes, ``(B, 3, H, W)``."""
        texts, seeds, how = [row.text for row in rows], [row.seed for row in rows], self.sampler
        soft = soft_of(self.model, texts, [row.soft for row in rows])
        images = self.model.sample(
            texts, seeds=seeds, steps=how.steps, guidance=how.guidance, batch=self.batch, soft=soft
        )
        return (images * 255 + 0.5).clamp(0, 255).to(torch.uint8).cpu()
