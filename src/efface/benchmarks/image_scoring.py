"""Generate a benchmark's images and pass them to the detectors; provenance and metadata of the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from efface.core.erasure import Erasure
from efface.core.result import Provenance
from efface.core.spec import package_versions
from efface.metrics.detections import TargetClasses
from efface.models.memory import oom_as_user_error
from efface.ops.training.progress import Progress

from .benchmark import Benchmark
from .collectors import MetricCollector
from .evaluation import SampleKey
from .image_generation import ImageGenerator
from .samples import EvalSample


def generate_and_score(
    image_generator: ImageGenerator,
    samples: Sequence[EvalSample],
    erasure: Erasure | None,
    collector: MetricCollector,
    save_keys: set[SampleKey],
    target: TargetClasses,
    progress: Progress,
    name: str,
) -> None:
    """Generate the samples' images and update a collector with them.

    Args:
        image_generator: generates the images.
        samples: the images to generate.
        erasure: the erasure to apply; None for the base model.
        collector: runs the detectors.
        save_keys: samples whose images are saved.
        target: the erased concept's classes; the progress display shows the share of images that show it.
        progress: progress display.
        name: what to call these images in the progress display.
    """
    progress.start(f"generating {name}", len(samples), 0)
    try:
        done = 0
        for batch, images in image_generator.generate(samples, erasure):
            with oom_as_user_error("the detectors do not fit beside the model: choose a smaller dtype for it"):
                collector.update(batch, images, save_keys)
            done += len(batch)
            hits = [row.shows(target) for row in collector.detections.rows("name", "domain")]
            progress.update(done, {"concept seen": sum(hits) / len(hits)} if hits else {})
    finally:
        progress.stop()


def sampling_provenance(benchmark: Benchmark) -> Provenance:
    """Provenance of images generated with the benchmark's sampler."""
    return Provenance(
        sampler=benchmark.sampler.name,
        num_inference_steps=benchmark.sampler.num_inference_steps,
        guidance_scale=benchmark.sampler.guidance_scale,
    )


def benchmark_metadata(benchmark: Benchmark, split: str) -> dict[str, Any]:
    """A result's metadata about the benchmark, the sampler and the packages."""
    fields = {name: getattr(benchmark, name) for name in ("name", "version", "hash", "model", "head", "classes")}
    fields |= {"concept": benchmark.concept.name, "split": split, "seed": benchmark.first_seed(split)}
    fields |= {"prompts_hash": benchmark.prompts_hash}
    fields |= {"joint_concepts": list(benchmark.joint_concepts)} if benchmark.joint_concepts else {}
    return {"benchmark": fields, "sampler": benchmark.sampler, "versions": package_versions()}
