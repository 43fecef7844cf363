"""Generate a benchmark's images, from the cache where possible, shared among several processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext

from torch import Tensor

from efface.core.erasure import Erasure
from efface.core.manifest import LANGUAGE_COMPONENT
from efface.core.serialization import json_hash, to_jsonable
from efface.core.spec import package_versions
from efface.core.tensors import TensorBlob
from efface.distributed import env
from efface.distributed.collectives import sync_errors
from efface.models.editable import EditableModel
from efface.models.image_checks import check_base_images
from efface.models.pipeline_parts import DENOISERS
from efface.ops.editing.apply import applied
from efface.ops.tensor_conversion import to_image_bytes
from efface.ops.text.soft_prompts import to_soft_tokens
from efface.ops.training.progress import Progress

from .generation_round import GenerationRound
from .image_cache import ImageCache
from .samples import EvalSample, Sampler
from .start_latents import decoded, started_from

Advance = Callable[[int], None]
"""Called with the number of images after each batch."""


def model_key(model: EditableModel) -> str:
    """Hash of the weights, precision and kind of device of a model, and of the generating packages' versions."""
    generating = next(name for name in (*DENOISERS, LANGUAGE_COMPONENT) if name in model.components)
    dtype = str(next(model.components[generating].parameters()).dtype)
    packages = package_versions(["efface", "torch", "diffusers"])
    return json_hash({"base": model.fingerprint(), "dtype": dtype, "on": model.device.type, "by": packages})


def erasure_key(erasure: Erasure | None) -> str:
    """Hash of an erasure's edits with every byte of their tensors; runs with equal results share it."""
    if erasure is None:
        return ""
    digest = hashlib.sha256(json_hash([to_jsonable(edit) for edit in erasure.edits]).encode())
    for name in erasure.tensor_names():
        blob = TensorBlob.of(erasure.tensors[name])
        digest.update(f"{name} {blob.dtype} {blob.shape}".encode())
        digest.update(blob.data)
    return digest.hexdigest()


class ImageGenerator:
    """Generates a benchmark's images with one model, with or without an erasure.

    Args:
        model: the base model; an erasure is applied while its images are generated, then removed.
        sampler: the sampler's settings.
        cache: where images are stored; None for no cache.
        batch_size: images generated at once; the model's own number by default.
        allow_base_mismatch: accept an erasure made for another base model.

    Attributes:
        has_other_base: whether the model is not the base that the evaluated erasure was made for.
    """

    has_other_base: bool = False

    def __init__(
        self,
        model: EditableModel,
        sampler: Sampler,
        cache: ImageCache | None,
        *,
        batch_size: int | None = None,
        allow_base_mismatch: bool = False,
    ) -> None:
        self.model = model
        self.sampler = sampler
        self.batch_size = batch_size or model.default_batch_size
        self.allow_base_mismatch = allow_base_mismatch
        self.cache = cache if env.is_main() else None
        self._model_key = model_key(model) if self.cache else ""

    def generate(
        self, samples: Sequence[EvalSample], erasure: Erasure | None, advance: Advance | None = None
    ) -> Iterator[tuple[list[EvalSample], Tensor]]:
        """Yield batches of samples with their images ``(B, 3, H, W)`` in [0, 1], quantised to 8 bits as in a file.

        The erasure is applied with the first image that is not cached, and removed at the end: finish one stream
            before the next.
        Of several processes, each generates batches in turn and receives all images; only the main process has a cache.

        Args:
            samples: the images to generate.
            erasure: the erasure to apply; None generates with the base model.
            advance: called with the number of images after each batch.
        """
        state = json_hash([self._model_key, erasure_key(erasure), to_jsonable(self.sampler)]) if self.cache else ""
        is_applied = False
        with ExitStack() as stack:
            for batches in self._rounds(samples):
                generation_round = GenerationRound.planned(batches, state, self.cache)
                local_samples = generation_round.local_samples
                with sync_errors():
                    if local_samples and erasure is not None and not is_applied:
                        stack.enter_context(applied(self.model, erasure, self.allow_base_mismatch))
                        is_applied = True
                    local_images = self._generate_batch(local_samples) if local_samples else None
                collected = generation_round.collect(local_images, self.batch_size, self.model.image_size)
                for batch, images in zip(batches, collected, strict=True):
                    if erasure is None:
                        check_base_images(images.float())
                    yield batch, images.float() / 255
                    if advance:
                        advance(len(batch))

    def _rounds(self, samples: Sequence[EvalSample]) -> Iterator[list[list[EvalSample]]]:
        """The samples in rounds of one batch for each process."""
        round_size = self.batch_size * env.world_size()
        for start in range(0, len(samples), round_size):
            in_round = samples[start : start + round_size]
            yield [list(in_round[i : i + self.batch_size]) for i in range(0, len(in_round), self.batch_size)]

    def _generate_batch(self, samples: Sequence[EvalSample]) -> Tensor:
        """The samples' images as bytes, ``(B, 3, H, W)``."""
        texts, seeds = [sample.text for sample in samples], [sample.seed for sample in samples]
        starts = [sample.start for sample in samples if sample.start]
        if starts and starts[0].step >= self.sampler.num_inference_steps:
            return to_image_bytes(decoded(self.model, starts))
        with started_from(self.model, starts, seeds) if starts else nullcontext():
            images = self.model.sample(
                texts,
                seeds=seeds,
                num_inference_steps=self.sampler.num_inference_steps,
                guidance_scale=self.sampler.guidance_scale,
                batch_size=self.batch_size,
                soft=to_soft_tokens(self.model, [sample.soft for sample in samples]),
            )
        return to_image_bytes(images)


def read_images(
    generator: ImageGenerator,
    samples: Sequence[EvalSample],
    erasure: Erasure | None,
    read: Callable[[list[EvalSample], Tensor], object],
    progress: Progress,
    name: str,
) -> None:
    """Generates images and reads each batch, with a progress display.

    Args:
        generator: generates the images.
        samples: the images to generate.
        erasure: the erasure to apply; None for the base model.
        read: called with every batch of samples and their images ``(B, 3, H, W)`` in [0, 1].
        progress: progress display.
        name: what the progress display calls this.
    """
    progress.start(name, len(samples), 0)
    done = 0
    try:
        for batch, images in generator.generate(samples, erasure):
            read(batch, images)
            done += len(batch)
            progress.update(done, {})
    finally:
        progress.stop()
