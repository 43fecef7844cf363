"""Images per second of an evaluation, relative to plain batched sampling with diffusers.

Both generate images of the same prompts with 20 DDIM steps at batch size 16. The evaluation also judges the images,
computes CLIP scores and features, and caches the images. Rounds alternate; the ratio of the medians is the result.
Usage: ``python benchmarks/perf/evaluation.py``.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
import typer

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.collectors import MetricCollector
from efface.benchmarks.image_cache import ImageCache
from efface.benchmarks.image_generation import ImageGenerator
from efface.benchmarks.image_scoring import generate_and_score
from efface.benchmarks.samples import EvalSample, Sampler
from efface.metrics.detections import TargetClasses
from efface.models.loading import load_model
from efface.models.model_ref import bundled_folder
from efface.ops.training.progress import Silent

BATCH_SIZE = 16


def time_diffusers(samples: list[EvalSample], sampler: Sampler) -> float:
    """Seconds that plain diffusers takes."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(bundled_folder("pocket"), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    start_time = time.perf_counter()
    for start in range(0, len(samples), BATCH_SIZE):
        batch = samples[start : start + BATCH_SIZE]
        seeds = [torch.Generator().manual_seed(sample.seed) for sample in batch]
        pipe(
            [sample.text for sample in batch],
            num_inference_steps=sampler.num_inference_steps,
            guidance_scale=sampler.guidance_scale,
            generator=seeds,
            output_type="pt",
        )
    return time.perf_counter() - start_time


def time_evaluation(samples: list[EvalSample], benchmark: Benchmark) -> float:
    """Seconds that an evaluation takes for the same images."""
    with tempfile.TemporaryDirectory() as folder:
        image_generator = ImageGenerator(
            load_model("pocket"), benchmark.sampler, ImageCache(Path(folder) / "p.sqlite"), batch_size=BATCH_SIZE
        )
        collector = MetricCollector.for_benchmark(benchmark)
        target = TargetClasses(benchmark.head, benchmark.classes)
        start_time = time.perf_counter()
        generate_and_score(image_generator, samples, None, collector, set(), target, Silent(), "")
        return time.perf_counter() - start_time


def main(images: int = 96, rounds: int = 3) -> None:
    """Measure and print JSON."""
    benchmark = Benchmark.load("pocket-weapon")
    samples = benchmark.samples("dev")[:images]
    sampler = benchmark.sampler
    time_diffusers(samples[:BATCH_SIZE], sampler)  # warm-up
    times = [(time_diffusers(samples, sampler), time_evaluation(samples, benchmark)) for _ in range(rounds)]
    plain, evaluation = (statistics.median(seconds) for seconds in zip(*times, strict=True))
    print(json.dumps({
        "images": len(samples), "plain_images_a_second": len(samples) / plain,
        "evaluation_images_a_second": len(samples) / evaluation, "ratio": plain / evaluation,
        "threads": torch.get_num_threads(), "machine": platform.machine(), "torch": torch.__version__,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
